//! The agent: router, controller, workers, HTTP.
