//! Matrix products whose results are exact or in double precision: integers of 4 and 8 bits, and `f64`
//! (PTX ISA, "Matrix Fragments for mma" of the respective shapes).

use super::Operation;
use super::decode::{Decoded, Decoder, Suffixes};
use super::matrix::{Shape, fragment_index, mma_place, rows};
use super::registers::{LANES, Registers};
use super::{Row, matrix};
use crate::ptx::{Instruction, Type};

/// Elements of the largest integer operand: `a` of `m16n8k64`.
const TILE: usize = 1024;

/// One operand of an integer product.
struct Part {
    rows: Vec<u32>,
    /// Width of an element in bits, and whether it is two's complement.
    bits: u32,
    signed: bool,
    /// Row-major index of each element of each lane.
    places: Vec<[u16; LANES]>,
}

impl Part {
    fn new(rows: Vec<u32>, (bits, signed): (u32, bool), place: impl Fn(usize, usize) -> usize) -> Self {
        let count = rows.len() * (32 / bits) as usize;
        let places =
            (0..count).map(|element| std::array::from_fn(|lane| place(lane, element) as u16)).collect();
        Self { rows, bits, signed, places }
    }

    fn gather(&self, r: &Registers) -> [i32; TILE] {
        let mut tile = [0; TILE];
        let (each, unused) = ((32 / self.bits) as usize, 32 - self.bits);
        for (element, places) in self.places.iter().enumerate() {
            let row = &r.words[self.rows[element / each] as usize];
            for lane in 0..LANES {
                let top = row[lane] >> ((element % each) as u32 * self.bits) << unused;
                let value = if self.signed { top as i32 >> unused } else { (top >> unused) as i32 };
                tile[places[lane] as usize % TILE] = value;
            }
        }
        tile
    }
}

fn integer_product(shape: Shape, saturate: bool, [d, a, b, c]: [Part; 4]) -> Operation {
    Operation::Warp(Box::new(move |r, _| {
        let (left, right, mut sum) = (a.gather(r), b.gather(r), c.gather(r));
        for row in 0..shape.m {
            for column in 0..shape.n {
                let place = row * shape.n + column;
                let products = (0..shape.k)
                    .map(|k| i64::from(left[row * shape.k + k]) * i64::from(right[k * shape.n + column]));
                let exact = i64::from(sum[place]) + products.sum::<i64>();
                let clamped = exact.clamp(i32::MIN.into(), i32::MAX.into());
                sum[place] = if saturate { clamped } else { exact } as i32;
            }
        }
        for (row, places) in d.rows.iter().zip(&d.places) {
            r.words[*row as usize] = places.map(|place| sum[place as usize % TILE] as u32);
        }
    }))
}

/// `d = a b + c` of `m8n8k4` on doubles. `lane_of(k, column)` says which lane holds that element of `b`.
fn double_product(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    lane_of: fn(usize, usize) -> usize,
) -> Decoded<Operation> {
    let mut long = |index: usize, target: bool| -> Decoded<Vec<usize>> {
        let operand = cx.operand(i, index)?;
        let list = matrix::registers(cx, operand, target, Type::F64)?;
        list.into_iter()
            .map(|row| match row {
                Row::Long(row) => Ok(row as usize),
                Row::Word(_) => cx.unknown_opcode(i),
            })
            .collect()
    };
    let (d, a, b, c) = (long(0, true)?, long(1, false)?, long(2, false)?, long(3, false)?);
    if (d.len(), a.len(), b.len(), c.len()) != (2, 1, 1, 2) {
        return cx.unknown_opcode(i);
    }
    Ok(Operation::Warp(Box::new(move |r, _| {
        let get = |row: usize, lane: usize| f64::from_bits(r.longs[row][lane]);
        let value: [[f64; LANES]; 2] = std::array::from_fn(|e| {
            std::array::from_fn(|lane| {
                let (row, column) = (lane / 4, 2 * (lane % 4) + e);
                (0..4).fold(get(c[e], lane), |sum, k| {
                    get(a[0], 4 * row + k).mul_add(get(b[0], lane_of(k, column)), sum)
                })
            })
        });
        for e in 0..2 {
            r.longs[d[e]] = value[e].map(f64::to_bits);
        }
    })))
}

/// Whether an opcode is one of these products.
pub(super) fn knows(i: &Instruction) -> bool {
    let product = i.opcode[0] == "mma" || i.opcode[1] == "mma";
    product && i.opcode.iter().any(|suffix| matches!(suffix.as_str(), "s8" | "u8" | "s4" | "u4" | "f64"))
}

/// An integer element's width in bits and whether it is signed.
fn element(name: Option<&str>) -> Option<(u32, bool)> {
    Some(match name? {
        "s8" => (8, true),
        "u8" => (8, false),
        "s4" => (4, true),
        "u4" => (4, false),
        _ => return None,
    })
}

/// The shapes of `mma` and of `wmma`, with the width of their integer elements; 64 bits are doubles.
const SHAPES: &[(&str, bool, u32, [usize; 3])] = &[
    ("m8n8k16", false, 8, [8, 8, 16]),
    ("m16n8k16", false, 8, [16, 8, 16]),
    ("m16n8k32", false, 8, [16, 8, 32]),
    ("m8n8k32", false, 4, [8, 8, 32]),
    ("m16n8k32", false, 4, [16, 8, 32]),
    ("m16n8k64", false, 4, [16, 8, 64]),
    ("m8n8k4", false, 64, [8, 8, 4]),
    ("m16n16k16", true, 8, [16, 16, 16]),
    ("m32n8k16", true, 8, [32, 8, 16]),
    ("m8n32k16", true, 8, [8, 32, 16]),
    ("m8n8k4", true, 64, [8, 8, 4]),
];

/// Decodes a product that [`knows`] accepts; with it the operations of a warp.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<(Operation, u32)>> {
    let mut s = Suffixes::new(i);
    let wmma = s.take("mma");
    s.ignore(&["sync", "aligned", "row", "row", "col", "col", "rn"]);
    let saturate = s.take("satfinite");
    let Some(name) = s.first() else { return Ok(None) };
    s.take(name);
    let double = s.first() == Some("f64");
    if double {
        s.ignore(&["f64", "f64", "f64", "f64"]);
    }
    let mut types = [None; 2];
    if !double {
        if !s.take("s32") {
            return Ok(None);
        }
        for ty in &mut types {
            let suffix = s.first();
            *ty = element(suffix);
            s.take(suffix.unwrap_or_default());
        }
        s.take("s32");
    }
    cx.finish(&s, i)?;
    let bits = types[0].map_or(64, |(bits, _)| bits);
    let known = SHAPES.iter().find(|shape| (shape.0, shape.1, shape.2) == (name, wmma, bits));
    let Some(&(_, _, _, [m, n, k])) = known else { return Ok(None) };
    let operations = (2 * m * n * k) as u32;
    if double {
        let lane_of = if wmma { |k, column| 8 * k + column } else { |k, column| 4 * column + k };
        return double_product(cx, i, lane_of).map(|operation| Some((operation, operations)));
    }
    let [Some(a), Some(b)] = types else { return Ok(None) };
    if a.0 != b.0 {
        return Ok(None);
    }
    let shape = Shape { m, n, k };
    let mut list = Vec::new();
    for (index, which) in ['d', 'a', 'b', 'c'].into_iter().enumerate() {
        let rows = rows(cx, cx.operand(i, index)?, index == 0)?;
        let ty = [(32, true), a, b, (32, true)][index];
        let (height, width) = matrix::extent(which, shape);
        let expected = height * width / LANES;
        if rows.len() * (32 / ty.0) as usize != expected {
            return Ok(None);
        }
        let per = (32 / ty.0) as usize;
        list.push(Part::new(rows, ty, |lane, element| {
            if wmma {
                fragment_index((height * width) as u32, lane as u32, element as u32) as usize
            } else {
                mma_place(which, shape, per, lane, element)
            }
        }));
    }
    let Ok(list) = <[Part; 4]>::try_from(list) else { return Ok(None) };
    Ok(Some((integer_product(shape, saturate, list), operations)))
}
