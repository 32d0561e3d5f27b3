//! marching_cubes
