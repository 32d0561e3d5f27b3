//! The driver API, from outside: each test is a process that loads the emulator as its libcuda.so.1
//! and calls it through cudarc, as any program does.

#[macro_use]
mod support;
mod capture;
mod devices;
mod errors;
mod examples;
mod faults;
mod graphs;
mod memory;
mod modules;
mod report;
mod runtime;
mod sharing;
mod streams;
