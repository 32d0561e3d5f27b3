//! CPU building blocks: memory, SIMD selection, GEMM micro-kernels, convolution cores, vector functions.

pub mod arena;
pub mod conv;
pub mod math;
pub mod simd;

mod blocks;
mod gemm;
mod shared;
