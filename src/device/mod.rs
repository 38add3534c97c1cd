//! What this machine has to run kernels on, or why it has it not.

pub mod cpu;
