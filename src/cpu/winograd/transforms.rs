//! The transforms of F(4x4, 3x3) along one axis, with the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.3), and their adjoints.

use crate::cpu::vector::Vector;

/// Values along an edge of a tile: of its input (and of the product), of its output, and of the kernel.
pub const INPUT: usize = 6;
pub const OUTPUT: usize = 4;
pub const TAPS: usize = 3;

/// Products of a tile.
pub const POINTS: usize = INPUT * INPUT;

/// A transform along one axis. A trait and not a function that is passed on: what calls a passed function is not
/// compiled for the vectors' instructions.
pub trait Transform<const N: usize, const M: usize> {
    fn line<V: Vector>(values: [V; N]) -> [V; M];
}

/// B^T d.
pub struct Input;

/// A^T m.
pub struct Output;

/// A y, the adjoint of [`Output`].
pub struct OutputAdjoint;

/// G g.
pub struct Weights;

/// G^T s, the adjoint of [`Weights`].
pub struct WeightsAdjoint;

impl Transform<INPUT, INPUT> for Input {
    #[inline(always)]
    fn line<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; INPUT]) -> [V; INPUT] {
        let (even, odd) = (d2.times_plus(-4.0, d4), d1.times_plus(-4.0, d3));
        let (near, far) = (d4.sub(d2), d3.sub(d1));
        [
            d0.times_plus(4.0, d2.times_plus(-5.0, d4)),
            even.add(odd),
            even.sub(odd),
            far.times_plus(2.0, near),
            far.times_plus(-2.0, near),
            d1.times_plus(4.0, d3.times_plus(-5.0, d5)),
        ]
    }
}

impl Transform<INPUT, OUTPUT> for Output {
    #[inline(always)]
    fn line<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; INPUT]) -> [V; OUTPUT] {
        let (sum1, difference1) = (m1.add(m2), m1.sub(m2));
        let (sum2, difference2) = (m3.add(m4), m3.sub(m4));
        [
            m0.add(sum1).add(sum2),
            difference2.times_plus(2.0, difference1),
            sum2.times_plus(4.0, sum1),
            difference2.times_plus(8.0, difference1).add(m5),
        ]
    }
}

impl Transform<OUTPUT, INPUT> for OutputAdjoint {
    #[inline(always)]
    fn line<V: Vector>([y0, y1, y2, y3]: [V; OUTPUT]) -> [V; INPUT] {
        let (even1, odd1) = (y0.add(y2), y1.add(y3));
        let (even2, odd2) = (y2.times_plus(4.0, y0), y3.times_plus(8.0, y1.times(2.0)));
        [y0, even1.add(odd1), even1.sub(odd1), even2.add(odd2), even2.sub(odd2), y3]
    }
}

impl Transform<TAPS, INPUT> for Weights {
    #[inline(always)]
    fn line<V: Vector>([g0, g1, g2]: [V; TAPS]) -> [V; INPUT] {
        let (ends, middle) = (g0.add(g2).times(-1.0 / 6.0), g1.times(1.0 / 6.0));
        let (wide, wide_middle) = (g2.times_plus(1.0 / 6.0, g0.times(1.0 / 24.0)), g1.times(1.0 / 12.0));
        [g0.times(0.25), ends.sub(middle), ends.add(middle), wide.add(wide_middle), wide.sub(wide_middle), g2]
    }
}

impl Transform<INPUT, TAPS> for WeightsAdjoint {
    #[inline(always)]
    fn line<V: Vector>([s0, s1, s2, s3, s4, s5]: [V; INPUT]) -> [V; TAPS] {
        let (sum1, difference1) = (s1.add(s2), s2.sub(s1));
        let (sum2, difference2) = (s3.add(s4), s3.sub(s4));
        [
            s0.times_plus(0.25, sum1.times_plus(-1.0 / 6.0, sum2.times(1.0 / 24.0))),
            difference1.times_plus(1.0 / 6.0, difference2.times(1.0 / 12.0)),
            sum2.sub(sum1).times_plus(1.0 / 6.0, s5),
        ]
    }
}

/// Where a transform takes its values from and where it leaves them. Both functions must be `#[inline(always)]`.
pub trait Ends<V: Vector> {
    fn get(&self, i: usize, j: usize) -> V;
    fn put(&self, i: usize, j: usize, value: V);
}

/// A transform along both axes of `N` x `N` values, to `M` x `M`.
#[expect(
    clippy::needless_range_loop,
    reason = "functions of iterators are not compiled for the instructions"
)]
#[inline(always)]
pub fn both_axes<V: Vector, T: Transform<N, M>, const N: usize, const M: usize>(ends: &impl Ends<V>) {
    let mut rows = [[V::zero(); N]; M];
    for j in 0..N {
        let mut column = [V::zero(); N];
        for i in 0..N {
            column[i] = ends.get(i, j);
        }
        let column = T::line(column);
        for i in 0..M {
            rows[i][j] = column[i];
        }
    }
    for i in 0..M {
        let row = T::line(rows[i]);
        for j in 0..M {
            ends.put(i, j, row[j]);
        }
    }
}
