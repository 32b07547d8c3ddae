//! One file per family of commands; each has a function that takes what was typed and ends in an [`Outcome`].

pub(crate) mod agent;
pub(crate) mod bench;
pub(crate) mod capability;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod hosts;
pub(crate) mod lists;
pub(crate) mod membership;
pub(crate) mod messages;
pub(crate) mod recovery;
pub(crate) mod settings;
pub(crate) mod token;
pub(crate) mod worker;
