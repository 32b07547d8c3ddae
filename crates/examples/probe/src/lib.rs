//! A worker for smoke tests, scenarios and operators.
