//! Actors for one machine or many: what users write.
