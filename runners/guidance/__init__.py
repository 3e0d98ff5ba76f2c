"""Methods that steer a trained network while sampling."""
