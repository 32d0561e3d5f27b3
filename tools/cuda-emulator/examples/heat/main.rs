//! The heat equation on a plate, by Jacobi iteration, with plain cudarc: nothing here knows of the emulator.
//! The iterations are captured once as a graph and replayed.

use std::error::Error;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

const WIDTH: usize = 45;
const HEIGHT: usize = 37;
const PAIRS: usize = 4;
const REPLAYS: usize = 5;

/// The same iteration on the host, in the same order of additions.
fn reference(mut now: Vec<f32>) -> (Vec<f32>, f32) {
    let mut before = now.clone();
    for _ in 0..2 * PAIRS * REPLAYS {
        before.clone_from(&now);
        for y in 1..HEIGHT - 1 {
            for x in 1..WIDTH - 1 {
                let at = y * WIDTH + x;
                let around = (before[at - 1] + before[at + 1]) + (before[at - WIDTH] + before[at + WIDTH]);
                now[at] = 0.25 * around;
            }
        }
    }
    let change = now.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (now, change)
}

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: asks the loader for the driver's library and keeps nothing of it.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("there is no CUDA driver".into());
    }
    let context = CudaContext::new(0)?;
    // All work is in one stream: no events are needed to order it.
    // SAFETY: no slice is used in another stream.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream()?;
    let module = context.load_module(Ptx::from_src(include_str!("heat.ptx")))?;
    let (step, change) = (module.load_function("step")?, module.load_function("change")?);

    let mut plate = vec![0.0f32; WIDTH * HEIGHT];
    plate[..WIDTH].fill(100.0);
    let mut a = stream.clone_htod(&plate)?;
    let mut b = stream.alloc_zeros::<f32>(plate.len())?;
    let mut most = stream.alloc_zeros::<u32>(1)?;
    let (width, height, count) = (WIDTH as i32, HEIGHT as i32, plate.len() as i32);
    let grid = LaunchConfig {
        grid_dim: (WIDTH.div_ceil(32) as u32, HEIGHT.div_ceil(8) as u32, 1),
        block_dim: (32, 8, 1),
        shared_mem_bytes: 0,
    };
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    for _ in 0..PAIRS {
        // SAFETY: the arguments are those of the kernel, and the grid covers the plate.
        unsafe {
            stream.launch_builder(&step).arg(&a).arg(&mut b).arg(&width).arg(&height).launch(grid)?;
            stream.launch_builder(&step).arg(&b).arg(&mut a).arg(&width).arg(&height).launch(grid)?;
        }
    }
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
    let graph = stream.end_capture(flags)?.ok_or("the capture has no graph")?;
    for _ in 0..REPLAYS {
        graph.launch()?;
    }
    // SAFETY: the arguments are those of the kernel; the loop covers any count.
    unsafe {
        let config = LaunchConfig { grid_dim: (3, 1, 1), block_dim: (128, 1, 1), shared_mem_bytes: 0 };
        stream.launch_builder(&change).arg(&a).arg(&b).arg(&count).arg(&mut most).launch(config)?;
    }
    let (found, most) = (stream.clone_dtoh(&a)?, f32::from_bits(stream.clone_dtoh(&most)?[0]));
    stream.synchronize()?;
    let (expected, expected_most) = reference(plate);
    if found != expected || most != expected_most {
        return Err(format!("the plate is wrong: a change of {most}, not {expected_most}").into());
    }
    println!("heat: {} steps right on {}", 2 * PAIRS * REPLAYS, context.name()?);
    Ok(())
}
