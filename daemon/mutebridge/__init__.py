"""A bridge between a physical mute button and a softphone.

Presses go over MQTT to the session controller of the softphone, only while its call is connected; the controller's
mic-state events come back and drive the light. `core` decides and touches nothing, `edges` touch and decide nothing.
"""

__version__ = "0.1.0"
