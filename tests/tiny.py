"""The command line of a run of a few seconds: a tiny network on 60 drawn faces of 30 people."""

TINY = (
    "--config.dataset.people=30",
    "--config.dataset.pictures_per_person=2",
    "--config.dataset.resolution=16",
    "--config.image_size=16",
    "--config.resize=16",
    "--config.model.widths=(4,8)",
    "--config.batch_size=8",
    "--config.test_batch_size=8",
)
