-- The database of the user, srpu, is made by the image and holds the durable workflows; this one is Label Studio's.
CREATE DATABASE labelstudio;
