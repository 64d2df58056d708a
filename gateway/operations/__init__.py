"""What operators and the relay itself do about the service: alerts, incidents, credits."""
