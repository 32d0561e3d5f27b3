//! CPU building blocks: SIMD selection, GEMM and convolution cores.

pub mod conv;
