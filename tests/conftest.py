from hypothesis import settings

# How long an example takes says nothing about what it shows, and on a busy machine nothing at all.
settings.register_profile("fedsplit", deadline=None)
settings.load_profile("fedsplit")
