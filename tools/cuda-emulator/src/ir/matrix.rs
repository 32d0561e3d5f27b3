//! Tensor-core instructions: `mma.sync`, `wmma` and `ldmatrix` (PTX ISA, "Warp Level Matrix
//! Multiply-Accumulate Instructions"). The figures there say which element lies in which register.

use super::decode::{Decoded, Decoder, Suffixes};
use super::half::{half_to_single, single_to_half};
use super::matrix_exact;
use super::registers::{LANES, Registers, vectorised};
use super::{Access, Operation, Row};
use crate::ptx::{Instruction, Operand, Space, Type};

/// Which element of a `wmma` matrix each register of each lane holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentLayout {
    /// Rows of the register file, in the order of the operand list.
    pub registers: Vec<Row>,
    /// Elements in a register: four bytes, two halves, or one.
    pub packed: u32,
    /// Columns of the matrix.
    pub columns: u32,
    /// Elements of the matrix.
    pub elements: u32,
    /// Whether the lines of memory are columns.
    pub column_major: bool,
}

impl FragmentLayout {
    /// Line of memory and place in the line of element `n` of a lane. The ISA leaves the layout open; here
    /// elements are dealt to the lanes row by row, and repeat where there are more registers than elements.
    pub fn place(&self, lane: u32, n: u32) -> (u32, u32) {
        let index = fragment_index(self.elements, lane, n);
        let (row, column) = (index / self.columns, index % self.columns);
        if self.column_major { (column, row) } else { (row, column) }
    }
}

/// Row-major index of element `n` of a lane in a `wmma` matrix of so many elements.
pub(super) fn fragment_index(elements: u32, lane: u32, n: u32) -> u32 {
    let each = elements / LANES as u32;
    lane * each + n % each
}

/// Elements of the largest matrix of an instruction (`wmma` with 32 rows and 16 columns).
const TILE: usize = 512;
/// A small dense matrix, row-major.
type Tile = [f32; TILE];

/// How the elements of an operand lie: `place(lane, element)` is the index in the tile.
#[derive(Clone)]
struct Fragment {
    rows: Vec<u32>,
    ty: Type,
    /// Index in the tile for each register part of each lane: `[part][lane]`.
    places: Vec<[u16; LANES]>,
}

impl Fragment {
    fn parts(ty: Type) -> usize {
        if ty.size() == 2 { 2 } else { 1 }
    }

    #[inline(always)]
    fn gather(&self, r: &Registers, tile: &mut Tile) {
        match self.ty {
            Type::F16 => self.gather_halves(r, tile, half_to_single),
            Type::Bf16 => self.gather_halves(r, tile, |bits| f32::from_bits(u32::from(bits) << 16)),
            _ => {
                // The tensor cores read the upper 19 bits of a TF32 operand.
                let mask = if self.ty == Type::Tf32 { 0xffff_e000 } else { u32::MAX };
                for (row, places) in self.rows.iter().zip(&self.places) {
                    let row = &r.words[*row as usize];
                    for lane in 0..LANES {
                        tile[places[lane] as usize % TILE] = f32::from_bits(row[lane] & mask);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn gather_halves(&self, r: &Registers, tile: &mut Tile, single: impl Fn(u16) -> f32) {
        for (pair, &row) in self.places.chunks_exact(2).zip(&self.rows) {
            let row = &r.words[row as usize];
            let low = row.map(|bits| single(bits as u16));
            let high = row.map(|bits| single((bits >> 16) as u16));
            for lane in 0..LANES {
                tile[pair[0][lane] as usize % TILE] = low[lane];
                tile[pair[1][lane] as usize % TILE] = high[lane];
            }
        }
    }

    #[inline(always)]
    fn scatter(&self, r: &mut Registers, tile: &Tile) {
        if self.ty == Type::F16 {
            for (part, places) in self.places.chunks_exact(2).enumerate() {
                let row = &mut r.words[self.rows[part] as usize];
                for lane in 0..LANES {
                    let half = |n: usize| u32::from(single_to_half(tile[places[n][lane] as usize % TILE]));
                    row[lane] = half(1) << 16 | half(0);
                }
            }
            return;
        }
        for (row, places) in self.rows.iter().zip(&self.places) {
            let row = &mut r.words[*row as usize];
            for lane in 0..LANES {
                row[lane] = tile[places[lane] as usize % TILE].to_bits();
            }
        }
    }
}

/// Rows of `a` and `d`, columns of `b` and `d`, columns of `a` and rows of `b`.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// Row-major index of element `e` of a lane in an `mma` fragment with `per` elements in a register (PTX ISA,
/// "Matrix Fragments for mma.m8n8k*" and "m16n8k*").
pub(super) fn mma_place(which: char, shape: Shape, per: usize, lane: usize, e: usize) -> usize {
    let (group, within) = (lane / 4, lane % 4);
    let (register, part) = (e / per, e % per);
    let (row, column) = match which {
        'a' if shape.m == 8 => (group, within * per + part + 4 * per * register),
        // Registers go down the two halves of the rows first, then along k.
        'a' => (group + 8 * (register & 1), within * per + part + 4 * per * (register >> 1)),
        'b' => (within * per + part + 4 * per * register, group),
        // Pairs of columns, then the lower half of the rows.
        _ => (group + 8 * (e >> 1), within * 2 + (e & 1)),
    };
    row * if which == 'a' { shape.k } else { shape.n } + column
}

/// Places of the elements of all lanes.
fn mma_places(which: char, shape: Shape, ty: Type, count: usize) -> Vec<[u16; LANES]> {
    let per = Fragment::parts(ty);
    (0..count).map(|e| std::array::from_fn(|lane| mma_place(which, shape, per, lane, e) as u16)).collect()
}

/// The product of one instruction: `d = a b + c`, each element summed in single precision along k.
#[inline(always)]
fn multiply(shape: Shape, a: &Tile, b: &Tile, c: &Tile) -> Tile {
    let mut d = *c;
    let n = shape.n;
    for row in 0..shape.m {
        let target = &mut d[row * n..(row + 1) * n];
        if n == 8 {
            let mut sums: [f32; 8] = std::array::from_fn(|column| target[column]);
            for k in 0..shape.k {
                let left = a[row * shape.k + k];
                let right = &b[k * 8..k * 8 + 8];
                for column in 0..8 {
                    sums[column] = left.mul_add(right[column], sums[column]);
                }
            }
            target.copy_from_slice(&sums);
        } else {
            for k in 0..shape.k {
                let left = a[row * shape.k + k];
                let right = &b[k * n..(k + 1) * n];
                for (sum, &value) in target.iter_mut().zip(right) {
                    *sum = left.mul_add(value, *sum);
                }
            }
        }
    }
    d
}

vectorised! {
fn product(shape: Shape, fragments: [Fragment; 4]) -> Operation {
    let [d, a, b, c] = fragments;
    Operation::Warp(Box::new(move |r, _| {
        let (mut left, mut right, mut sum) = ([0.0; TILE], [0.0; TILE], [0.0; TILE]);
        a.gather(r, &mut left);
        b.gather(r, &mut right);
        c.gather(r, &mut sum);
        d.scatter(r, &multiply(shape, &left, &right, &sum));
    }))
}
}

/// Decodes a tensor-core instruction; with it the floating-point operations of a warp.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<(Operation, u32)> {
    if matrix_exact::knows(i) {
        return matrix_exact::decode(cx, i)?.map_or_else(|| cx.unknown_opcode(i), Ok);
    }
    let mut s = Suffixes::new(i);
    let decoded = match i.opcode[0].as_str() {
        "mma" => multiply_accumulate(cx, i, &mut s)?,
        "ldmatrix" => load_matrix(cx, i, &mut s)?.map(|operation| (operation, 0)),
        _ => fragments(cx, i, &mut s)?,
    };
    cx.finish(&s, i)?;
    decoded.map_or_else(|| cx.unknown_opcode(i), Ok)
}

/// The registers of a fragment, each holding a value of `ty`.
pub(super) fn registers(
    cx: &mut Decoder<'_>,
    operand: &Operand,
    target: bool,
    ty: Type,
) -> Decoded<Vec<Row>> {
    let list = match operand {
        Operand::Vector(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let row = |operand| {
        if target { cx.destination_row(operand, ty) } else { cx.source_row(operand, ty) }
    };
    list.iter().map(row).collect()
}

/// The registers of a fragment of 32-bit registers.
pub(super) fn rows(cx: &mut Decoder<'_>, operand: &Operand, target: bool) -> Decoded<Vec<u32>> {
    registers(cx, operand, target, Type::B32)?
        .into_iter()
        .map(|row| match row {
            Row::Word(row) => Ok(row),
            Row::Long(_) => cx.unknown("a matrix fragment in registers of 64 bits"),
        })
        .collect()
}

fn operand_types(s: &mut Suffixes<'_>) -> Vec<Type> {
    std::iter::from_fn(|| s.ty()).collect()
}

fn multiply_accumulate(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    s: &mut Suffixes<'_>,
) -> Decoded<Option<(Operation, u32)>> {
    s.ignore(&["sync", "aligned", "row", "col"]);
    let name = s.one_of(&["m16n8k4", "m16n8k8", "m16n8k16"]);
    let types = operand_types(s);
    let (shape, types) = match (name, types.as_slice()) {
        (Some(name), &[d, a, b, c]) => {
            let k = if name == "m16n8k4" {
                4
            } else if name == "m16n8k8" {
                8
            } else {
                16
            };
            let known = match a {
                Type::Tf32 => k < 16,
                Type::F16 | Type::Bf16 => k > 4,
                _ => false,
            };
            if !known || a != b || d != c || !matches!(d, Type::F32 | Type::F16) {
                return Ok(None);
            }
            (Shape { m: 16, n: 8, k }, [d, a, b, c])
        }
        _ => return Ok(None),
    };
    let mut list = Vec::new();
    for (index, which) in ['d', 'a', 'b', 'c'].into_iter().enumerate() {
        let rows = rows(cx, cx.operand(i, index)?, index == 0)?;
        let elements = match which {
            'a' => shape.m * shape.k,
            'b' => shape.k * shape.n,
            _ => shape.m * shape.n,
        };
        let ty = types[index];
        let count = elements / LANES;
        if rows.len() * Fragment::parts(ty) != count {
            return Ok(None);
        }
        list.push(Fragment { places: mma_places(which, shape, ty, count), rows, ty });
    }
    let Ok(list) = <[Fragment; 4]>::try_from(list) else { return Ok(None) };
    Ok(Some((product(shape, list), (2 * shape.m * shape.n * shape.k) as u32)))
}

fn load_matrix(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    s.ignore(&["sync", "aligned", "m8n8", "shared", "shared::cta", "b16"]);
    let transposed = s.take("trans");
    let count = match s.one_of(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => return Ok(None),
    };
    let rows: Vec<Row> = rows(cx, cx.operand(i, 0)?, true)?.into_iter().map(Row::Word).collect();
    if rows.len() != count as usize {
        return Ok(None);
    }
    let (base, offset, _) = cx.address(cx.operand(i, 1)?)?;
    let shared = Access { space: Space::Shared, base, offset, size: 16, signed: false, rows };
    Ok(Some(Operation::LoadMatrix { shared, count, transposed }))
}

/// The matrix that a `wmma` operand is: rows, columns.
pub(super) fn extent(which: char, shape: Shape) -> (usize, usize) {
    match which {
        'a' => (shape.m, shape.k),
        'b' => (shape.k, shape.n),
        _ => (shape.m, shape.n),
    }
}

fn fragments(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    s: &mut Suffixes<'_>,
) -> Decoded<Option<(Operation, u32)>> {
    let shapes = ["m16n16k16", "m32n8k16", "m8n32k16", "m16n16k8", "m8n8k4"];
    let Some(name) = s.one_of(&shapes) else { return Ok(None) };
    let (m, n, k) = match name {
        "m16n16k16" => (16, 16, 16),
        "m32n8k16" => (32, 8, 16),
        "m8n32k16" => (8, 32, 16),
        "m8n8k4" => (8, 8, 4),
        _ => (16, 16, 8),
    };
    let shape = Shape { m, n, k };
    s.ignore(&["sync", "aligned"]);
    if s.take("mma") {
        return wmma_product(cx, i, s, shape).map(|o| o.map(|o| (o, (2 * m * n * k) as u32)));
    }
    let load = s.take("load");
    if !load && !s.take("store") {
        return Ok(None);
    }
    let Some(which) = s.one_of(&["a", "b", "c", "d"]).and_then(|name| name.chars().next()) else {
        return Ok(None);
    };
    let column_major = s.one_of(&["row", "col"]) == Some("col");
    let space = match s.one_of(&["global", "shared", "shared::cta"]) {
        Some("global") => Space::Global,
        Some(_) => Space::Shared,
        None => Space::Generic,
    };
    let ty = cx.ty(s, i)?;
    let (memory, value) = if load { (1, 0) } else { (0, 1) };
    let size = match ty.size() {
        1 | 2 | 8 => ty.size(),
        _ => 4,
    };
    let held = if size == 8 { Type::B64 } else { Type::B32 };
    let registers = registers(cx, cx.operand(i, value)?, load, held)?;
    let (base, offset, _) = cx.address(cx.operand(i, memory)?)?;
    let access = Access { space, base, offset, size, signed: false, rows: Vec::new() };
    let (height, width) = extent(which, shape);
    let packed = if size == 8 { 1 } else { 4 / size };
    let elements = (height * width) as u32;
    let layout = FragmentLayout { registers, packed, columns: width as u32, elements, column_major };
    let stride = match i.operands.get(2) {
        Some(operand) => Some(cx.source_row(operand, Type::U32)?),
        None => None,
    };
    if layout.registers.iter().any(|row| matches!(row, Row::Long(_)) != (size == 8)) {
        return Ok(None);
    }
    let operation = if load {
        Operation::LoadFragment { access, stride, layout }
    } else {
        Operation::StoreFragment { access, stride, layout }
    };
    Ok(Some((operation, 0)))
}

/// `wmma.mma`: one type list for `.f16` inputs (`d`, `c`), another for the rest (`d`, `a`, `b`, `c`).
fn wmma_product(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    s: &mut Suffixes<'_>,
    shape: Shape,
) -> Decoded<Option<Operation>> {
    s.ignore(&["row", "row", "col", "col"]);
    let types = match operand_types(s)[..] {
        [d, c] => [d, Type::F16, Type::F16, c],
        [d, a, b, c] if a == b => [d, a, b, c],
        _ => return Ok(None),
    };
    if !matches!(types[1], Type::F16 | Type::Bf16 | Type::Tf32) || !matches!(types[0], Type::F16 | Type::F32)
    {
        return Ok(None);
    }
    let mut list = Vec::new();
    for (index, which) in ['d', 'a', 'b', 'c'].into_iter().enumerate() {
        let rows = rows(cx, cx.operand(i, index)?, index == 0)?;
        let (height, width) = extent(which, shape);
        let ty = types[index];
        let places = (0..rows.len() * Fragment::parts(ty))
            .map(|e| {
                std::array::from_fn(|lane| {
                    fragment_index((height * width) as u32, lane as u32, e as u32) as u16
                })
            })
            .collect();
        list.push(Fragment { rows, ty, places });
    }
    let Ok(list) = <[Fragment; 4]>::try_from(list) else { return Ok(None) };
    Ok(Some(product(shape, list)))
}
