"""Cityscapes label ids of what the scenes draw (cityscapesScripts, helpers/labels.py)."""

EGO_VEHICLE, STATIC = 1, 4
ROAD, SIDEWALK, TERRAIN, VEGETATION, SKY = 7, 8, 22, 21, 23
BUILDING, WALL, FENCE = 11, 12, 13
POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 17, 19, 20
PERSON, RIDER = 24, 25
CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 26, 27, 28, 31, 32, 33
