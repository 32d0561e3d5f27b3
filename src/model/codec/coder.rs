//! The range coder of a layer: symbols under integer laws, and what escapes them.

use super::tables::{Model, Table};
use constriction::stream::model::UniformModel;
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Decode as _, Encode as _};

/// Words of 16 bits end a layer with at most 3 bytes that say nothing.
type Encoder = RangeEncoder<u16, u64>;
type Decoder = RangeDecoder<u16, u64, constriction::backends::Cursor<u16, Vec<u16>>>;

/// Bits of an escaped magnitude at most.
const LONGEST: u32 = 30;
/// The largest magnitude of a value.
pub const MOST: i32 = 1 << 29;

const DAMAGED: &str = "a layer holds what no encoder writes";

fn coin() -> UniformModel<u16, 1> {
    UniformModel::new(2)
}

#[derive(Default)]
pub struct Writer(Encoder);

impl Writer {
    pub fn symbol(&mut self, symbol: usize, model: &Model) {
        self.0.encode_symbol(symbol, model.as_view()).expect("the symbol is in the table");
    }

    /// A value of a magnitude up to [`MOST`].
    pub fn value(&mut self, q: i32, table: &Table) {
        let reach = table.reach;
        if q.abs() <= reach {
            return self.symbol((reach + q) as usize, &table.model);
        }
        self.symbol((2 * reach + 1) as usize, &table.model);
        self.bit(u32::from(q < 0));
        // Exp-Golomb (Teuhola 1978): the length in unary, then all bits behind the first.
        let rest = (q.abs() - reach) as u32;
        let length = rest.ilog2();
        (0..length).for_each(|_| self.bit(1));
        self.bit(0);
        (0..length).rev().for_each(|at| self.bit(rest >> at & 1));
    }

    fn bit(&mut self, bit: u32) {
        self.0.encode_symbol(bit as usize, coin()).expect("a coin has two sides");
    }

    pub fn into_bytes(self) -> Vec<u8> {
        let words = self.0.into_compressed().expect("memory takes every word");
        words.into_iter().flat_map(u16::to_le_bytes).collect()
    }
}

pub struct Reader(Decoder);

impl Reader {
    /// # Errors
    /// An odd number of bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() % 2 == 1 {
            return Err(DAMAGED.to_string());
        }
        let words =
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect::<Vec<_>>();
        let Ok(decoder) = Decoder::from_compressed(words);
        Ok(Self(decoder))
    }

    pub fn symbol(&mut self, model: &Model) -> Result<usize, String> {
        self.0.decode_symbol(model.as_view()).map_err(|_| DAMAGED.to_string())
    }

    pub fn value(&mut self, table: &Table) -> Result<i32, String> {
        let reach = table.reach;
        let symbol = self.symbol(&table.model)? as i32;
        if symbol <= 2 * reach {
            return Ok(symbol - reach);
        }
        let sign = 1 - 2 * self.bit()? as i32;
        let mut length = 0;
        while self.bit()? == 1 {
            length += 1;
            if length > LONGEST {
                return Err(DAMAGED.to_string());
            }
        }
        let mut rest = 1u32;
        for _ in 0..length {
            rest = rest << 1 | self.bit()?;
        }
        let magnitude = i64::from(rest) + i64::from(reach);
        if magnitude > i64::from(MOST) {
            return Err(DAMAGED.to_string());
        }
        Ok(sign * magnitude as i32)
    }

    fn bit(&mut self) -> Result<u32, String> {
        self.0.decode_symbol(coin()).map(|bit| bit as u32).map_err(|_| DAMAGED.to_string())
    }

    /// # Errors
    /// Where the layer goes on behind the last symbol.
    pub fn finish(self) -> Result<(), String> {
        if self.0.maybe_exhausted() { Ok(()) } else { Err(DAMAGED.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::{LEVELS, laplace};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back(values in prop::collection::vec((-MOST..=MOST, 0u32..30, 0..LEVELS), 0..200)) {
            let tables: Vec<Table> = (0..LEVELS).map(|level| Table::new(&laplace(level)).unwrap()).collect();
            let values: Vec<(i32, usize)> =
                values.into_iter().map(|(q, shift, level)| (q >> shift, level)).collect();
            let mut writer = Writer::default();
            values.iter().for_each(|&(q, level)| writer.value(q, &tables[level]));
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes).unwrap();
            for &(q, level) in &values {
                prop_assert_eq!(reader.value(&tables[level]).unwrap(), q);
            }
            reader.finish().unwrap();
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..64), level in 0..LEVELS) {
            let table = Table::new(&laplace(level)).unwrap();
            if let Ok(mut reader) = Reader::new(&bytes) {
                for _ in 0..1000 {
                    if reader.value(&table).is_err() {
                        break;
                    }
                }
            }
        }
    }
}
