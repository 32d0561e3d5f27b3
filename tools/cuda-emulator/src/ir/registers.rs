//! The registers of a warp in a frame, lane by lane beside each other, and the loops over lanes that every
//! arithmetic instruction is made of.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// Registers of one frame of a warp. A register is a row of 32 lanes, so that one instruction is one loop
/// over contiguous values; predicates are masks with one bit per lane.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    /// Registers of at most 32 bits.
    pub words: Vec<[u32; LANES]>,
    /// Registers of 64 bits.
    pub longs: Vec<[u64; LANES]>,
    /// Predicate registers.
    pub predicates: Vec<u32>,
    /// The carry flag of `add.cc` and its kin.
    pub carry: u32,
}

/// A value of a lane as an instruction sees it, and how it lies in its register.
pub trait Lane: Copy + Default {
    /// Whether it lies in the file of 64-bit registers.
    const LONG: bool;
    /// The 32 lanes of a register.
    fn read(registers: &Registers, index: u32) -> [Self; LANES];
    /// Replaces the lanes in `mask`.
    fn write(registers: &mut Registers, index: u32, value: [Self; LANES], mask: u32);
}

#[inline(always)]
fn blend<T: Copy>(row: &mut [T; LANES], value: [T; LANES], mask: u32) {
    if mask == u32::MAX {
        *row = value;
        return;
    }
    for lane in 0..LANES {
        if mask >> lane & 1 == 1 {
            row[lane] = value[lane];
        }
    }
}

macro_rules! lanes {
    ($long:literal, $file:ident, $bits:ty: $($ty:ty, $from:expr, $into:expr;)*) => {$(
        impl Lane for $ty {
            const LONG: bool = $long;
            #[inline(always)]
            fn read(registers: &Registers, index: u32) -> [Self; LANES] {
                let row = &registers.$file[index as usize];
                let from: fn($bits) -> $ty = $from;
                std::array::from_fn(|lane| from(row[lane]))
            }
            #[inline(always)]
            fn write(registers: &mut Registers, index: u32, value: [Self; LANES], mask: u32) {
                let into: fn($ty) -> $bits = $into;
                let bits = std::array::from_fn(|lane| into(value[lane]));
                blend(&mut registers.$file[index as usize], bits, mask);
            }
        }
    )*};
}

lanes! { false, words, u32:
    u32, |v| v, |v| v;
    i32, |v| v as i32, |v| v as u32;
    f32, f32::from_bits, f32::to_bits;
    u16, |v| v as u16, u32::from;
    i16, |v| v as i16, |v| i32::from(v) as u32;
    u8, |v| v as u8, u32::from;
    i8, |v| v as i8, |v| i32::from(v) as u32;
}
lanes! { true, longs, u64:
    u64, |v| v, |v| v;
    i64, |v| v as i64, |v| v as u64;
    f64, f64::from_bits, f64::to_bits;
}

/// `d = f(a)` in the lanes of `mask`.
#[inline(always)]
pub fn unary<D: Lane, A: Lane>(r: &mut Registers, mask: u32, [d, a]: [u32; 2], f: impl Fn(A) -> D) {
    let a = A::read(r, a);
    let value = std::array::from_fn(|lane| f(a[lane]));
    D::write(r, d, value, mask);
}

/// `d = f(a, b)` in the lanes of `mask`.
#[inline(always)]
pub fn binary<D: Lane, A: Lane, B: Lane>(
    r: &mut Registers,
    mask: u32,
    [d, a, b]: [u32; 3],
    f: impl Fn(A, B) -> D,
) {
    let (a, b) = (A::read(r, a), B::read(r, b));
    let value = std::array::from_fn(|lane| f(a[lane], b[lane]));
    D::write(r, d, value, mask);
}

/// `d = f(a, b, c)` in the lanes of `mask`.
#[inline(always)]
pub fn ternary<D: Lane, A: Lane, B: Lane, C: Lane>(
    r: &mut Registers,
    mask: u32,
    [d, a, b, c]: [u32; 4],
    f: impl Fn(A, B, C) -> D,
) {
    let (a, b, c) = (A::read(r, a), B::read(r, b), C::read(r, c));
    let value = std::array::from_fn(|lane| f(a[lane], b[lane], c[lane]));
    D::write(r, d, value, mask);
}

/// One bit per lane: `f(a, b)`.
#[inline(always)]
pub fn compare<A: Lane, B: Lane>(r: &Registers, [a, b]: [u32; 2], f: impl Fn(A, B) -> bool) -> u32 {
    let (a, b) = (A::read(r, a), B::read(r, b));
    let mut bits = 0;
    for lane in 0..LANES {
        bits |= u32::from(f(a[lane], b[lane])) << lane;
    }
    bits
}

/// Defines a function whose closures are compiled twice, for the vector units of AVX2 and for any x86-64 (or
/// any other machine): the choice is made when an instruction is decoded, not when it runs.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) -> $ret {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
                fn vector($($arg: $ty),*) -> $ret $body
                if $crate::ir::registers::has_vector_units() {
                    // SAFETY: the processor has every feature that `vector` is compiled for.
                    return unsafe { vector($($arg),*) };
                }
            }
            fn plain($($arg: $ty),*) -> $ret $body
            plain($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// Whether the processor has what [`vectorised`] functions are compiled for.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_vector_units() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2")
        && has!("fma")
        && has!("bmi1")
        && has!("bmi2")
        && has!("lzcnt")
        && has!("popcnt")
        && has!("f16c")
}
