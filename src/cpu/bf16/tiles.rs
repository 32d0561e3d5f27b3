//! Tile products: C (32 x 32) = or += A (32 x depth) B (depth x 32), factors in bf16, sums in fp32.
//!
//! With AMX, or in plain code that rounds alike: each sum takes the products of 32 terms of its depth at a time, those of
//! even and those of odd terms apart, and adds the two to what it has. The bits of both are the same but for denormal
//! numbers, which AMX takes for zero.

use crate::cpu::simd::{self, Level};
use crate::error::{Error, Result};
use std::sync::OnceLock;

/// Rows and columns of a tile of sums: 2 x 2 of the processor's.
pub(super) const SIDE: usize = 32;
/// Terms of a step: one row of the processor's tiles.
pub(super) const STEP: usize = 32;
/// Values of B a step.
pub(super) const STEP_OF_B: usize = STEP * SIDE;
/// Rows and columns of the processor's tiles.
pub(super) const TILE: usize = 16;

/// The first factor: row i of tap t at `values[i * pitch + taps[t]]`, `steps` times [`STEP`] values.
pub(super) struct Rows<'a> {
    pub values: &'a [u16],
    pub pitch: usize,
    pub taps: &'a [usize],
    pub steps: usize,
}

/// (rows, B, C, floats between rows of C, accumulate)
type Run = unsafe fn(&Rows, *const u16, *mut f32, usize, bool);

/// A tile product of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernel(Run);

impl Kernel {
    /// AMX where the processor has it and the system grants it; plain code elsewhere.
    pub fn best() -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if by_amx() {
            return Self(amx::run);
        }
        Self::plain()
    }

    pub fn plain() -> Self {
        Self(plain)
    }

    /// C = A B, or C += A B with `accumulate`. B holds for each tap and step, first 16 columns and then the other 16,
    /// 16 pairs of terms: `[tap][step][half][pair][column][2]`. C is [`SIDE`] rows `pitch` floats apart.
    #[inline]
    pub fn run(&self, a: &Rows, b: &[u16], c: &mut [f32], pitch: usize, accumulate: bool) {
        let last = a.taps.iter().max().map_or(0, |&tap| (SIDE - 1) * a.pitch + tap + a.steps * STEP);
        assert!(a.values.len() >= last && b.len() >= a.taps.len() * a.steps * STEP_OF_B);
        assert!(!a.taps.is_empty() && a.steps > 0 && c.len() >= (SIDE - 1) * pitch + SIDE && pitch >= SIDE);
        // SAFETY: the kernel reads and writes exactly what the assertions cover, and `best` takes AMX only where
        // `granted` says so.
        unsafe { (self.0)(a, b.as_ptr(), c.as_mut_ptr(), pitch, accumulate) }
    }
}

/// Whether products in bf16 can be had here.
///
/// # Errors
/// Where they would run in plain code, unless [`simd::OVERRIDE`] asks for less than the processor has.
pub fn available() -> Result<()> {
    if by_amx() || simd::level() < simd::best() {
        return Ok(());
    }
    let problem =
        "bf16 on the CPU takes AMX (Intel from Sapphire Rapids on, Linux 5.16), which is not to be had here";
    let remedy =
        format!("leave --precision out, or set {}=plain for the same products, slowly", simd::OVERRIDE);
    Err(Error::new("--precision bf16", problem, remedy))
}

/// What computes them, in a word.
pub fn means() -> &'static str {
    if by_amx() { "AMX" } else { "plain code" }
}

fn by_amx() -> bool {
    simd::level() == Level::Avx512 && granted()
}

/// Whether this processor multiplies tiles of bf16 and the system lets this process; asked once.
fn granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        return amx::request();
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        false
    })
}

/// # Safety
/// The lengths that [`Kernel::run`] asserts.
unsafe fn plain(a: &Rows, b: *const u16, c: *mut f32, pitch: usize, accumulate: bool) {
    let widen = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    for i in 0..SIDE {
        // SAFETY: row i of C is SIDE floats by the caller's promise.
        let c: &mut [f32; SIDE] = unsafe { &mut *c.add(i * pitch).cast() };
        if !accumulate {
            c.fill(0.0);
        }
        for (step, tap) in (0..a.taps.len() * a.steps).map(|step| (step, a.taps[step / a.steps])) {
            let line = &a.values[i * a.pitch + tap + step % a.steps * STEP..][..STEP];
            // SAFETY: B holds as many steps by the caller's promise.
            let b = unsafe { std::slice::from_raw_parts(b.add(step * STEP_OF_B), STEP_OF_B) };
            for (half, c) in c.chunks_exact_mut(TILE).enumerate() {
                let mut sums = [[0.0f32; 2]; TILE];
                for (pair, terms) in line.chunks_exact(2).enumerate() {
                    let b = &b[(half * TILE + pair) * STEP..][..STEP];
                    for (sums, b) in sums.iter_mut().zip(b.chunks_exact(2)) {
                        for (sum, (a, b)) in sums.iter_mut().zip(terms.iter().zip(b)) {
                            *sum = widen(*a).mul_add(widen(*b), *sum);
                        }
                    }
                }
                c.iter_mut().zip(&sums).for_each(|(c, [even, odd])| *c += even + odd);
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use super::{Rows, TILE};
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// `arch_prctl` (Linux, arch/x86/include/uapi/asm/prctl.h) and the state of the tiles, which is large and therefore
    /// asked for by each process.
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    /// Bits of leaf 7, EDX: AMX-BF16 and AMX-TILE; of leaf 1, ECX: OSXSAVE; of XCR0: configuration and data of tiles.
    const FEATURES: u32 = 1 << 22 | 1 << 24;
    const OSXSAVE: u32 = 1 << 27;
    const STATES: u32 = 3 << 17;

    pub fn request() -> bool {
        if __cpuid_count(1, 0).ecx & OSXSAVE == 0
            || __cpuid_count(0, 0).eax < 7
            || __cpuid_count(7, 0).edx & FEATURES != FEATURES
        {
            return false;
        }
        let states: u32;
        // SAFETY: OSXSAVE says that the instruction exists; it only reads.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") states, out("edx") _, options(nomem, nostack)) };
        let refused: i64;
        // SAFETY: a system call that grants a permission or returns an error; it touches no memory of ours.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => refused, in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") TILE_DATA, out("rcx") _, out("r11") _, options(nostack));
        }
        states & STATES == STATES && refused == 0
    }

    /// The tiles' shapes (Intel SDM, LDTILECFG): palette 1, all 8 of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static SHAPES: Shapes = {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            (row_bytes[tile], rows[tile]) = (64, TILE as u8);
            tile += 1;
        }
        Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };

    /// Tiles 0 to 3 are sums, 4 and 5 rows of A, 6 and 7 halves of B. The tiles are set up and released within, so that
    /// no state outlives the call.
    ///
    /// # Safety
    /// [`request`] has said yes, and the lengths that [`super::Kernel::run`] asserts.
    pub unsafe fn run(a: &Rows, b: *const u16, c: *mut f32, pitch: usize, accumulate: bool) {
        // SAFETY: the instructions exist by the caller's promise. Tiles read 16 rows of 64 bytes: of A at
        // 2 * (row * pitch + tap) + 64 * step, of B in a run, of C at 4 * row * pitch, all inside by that promise.
        unsafe {
            asm!(
                "ldtilecfg [{p}]",
                "test {q}, {q}",
                "jnz 4f",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "jmp 2f",
                "4:",
                "tileloadd tmm0, [{c} + {cp}]",
                "tileloadd tmm1, [{c} + {cp} + 64]",
                "lea {q}, [{c} + 8 * {cp}]",
                "lea {q}, [{q} + 8 * {cp}]",
                "tileloadd tmm2, [{q} + {cp}]",
                "tileloadd tmm3, [{q} + {cp} + 64]",
                "2:",
                "mov {p}, [{taps}]",
                "lea {p}, [{a} + 2 * {p}]",
                "add {taps}, 8",
                "mov {k}, {steps}",
                "3:",
                "tileloadd tmm4, [{p} + {ap}]",
                "tileloadd tmm6, [{b} + {line}]",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "lea {q}, [{p} + 8 * {ap}]",
                "lea {q}, [{q} + 8 * {ap}]",
                "tileloadd tmm5, [{q} + {ap}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {p}, 64",
                "add {b}, 2048",
                "dec {k}",
                "jnz 3b",
                "dec {count}",
                "jnz 2b",
                "tilestored [{c} + {cp}], tmm0",
                "tilestored [{c} + {cp} + 64], tmm1",
                "lea {q}, [{c} + 8 * {cp}]",
                "lea {q}, [{q} + 8 * {cp}]",
                "tilestored [{q} + {cp}], tmm2",
                "tilestored [{q} + {cp} + 64], tmm3",
                "tilerelease",
                a = in(reg) a.values.as_ptr(),
                ap = in(reg) 2 * a.pitch,
                taps = inout(reg) a.taps.as_ptr() => _,
                count = inout(reg) a.taps.len() => _,
                steps = in(reg) a.steps,
                b = inout(reg) b => _,
                line = in(reg) 64usize,
                c = in(reg) c,
                cp = in(reg) 4 * pitch,
                p = inout(reg) &raw const SHAPES => _,
                q = inout(reg) usize::from(accumulate) => _,
                k = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
