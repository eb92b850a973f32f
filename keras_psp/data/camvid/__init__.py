"""CamVid: 701 street scenes from Cambridge with a class for every pixel.

`load_camvid` is what one calls. `builder` holds the same data set for TensorFlow Datasets
(`tfds.load("camvid")`), `release` what is downloaded, `layouts` how it lies in folders.
"""
