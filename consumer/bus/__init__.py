"""The broker: connections, the topology that detachd declares, consuming and publishing."""
