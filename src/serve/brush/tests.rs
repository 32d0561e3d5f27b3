use super::*;
use crate::device::Device;
use crate::hexplane::field::{Field, Settings};
use crate::hexplane::rasterize::{Normals, rasterize_on};
use crate::mesh::Similarity;
use crate::mesh::sample_head::head;

const SIZE: usize = 64;

/// The built-in head as such planes, in its own frame, which is about the cube.
fn planes(representation: Representation) -> Planes {
    let (mesh, transform) =
        crate::mesh::normalise::normalise(&head(1, 5000), Default::default()).expect("a head is a mesh");
    let device = Device::Cpu;
    rasterize_on(&device, &mesh, &transform, SIZE, representation, Normals::Interpolated).unwrap()
}

fn stroke(view: usize, mode: Mode, points: &[[f32; 2]]) -> Stroke {
    Stroke { view, mode, radius: 9.0, amount: 1.0, points: points.to_vec() }
}

fn applied(planes: &Planes, stroke: &Stroke) -> (Planes, Changed) {
    let (mut after, mut changed) = (planes.clone(), vec![false; 6 * SIZE * SIZE]);
    assert_eq!(fault(std::slice::from_ref(stroke), planes.representation, SIZE), None);
    apply(&mut after, stroke, &mut changed);
    (after, changed)
}

/// Points inside, of a grid.
fn inside(planes: &Planes) -> usize {
    let field = Field::new(planes, &Settings::default()).unwrap();
    let axis = |i: usize| (i as f32 + 0.5) / 32.0 - 1.0;
    let grid = (0..64 * 64 * 64).map(|i| [axis(i % 64), axis(i / 64 % 64), axis(i / 4096)]);
    field.values(&grid.collect::<Vec<_>>()).iter().filter(|f| **f < 0.0).count()
}

#[test]
fn what_changes_is_marked_and_nothing_else_changes() {
    for (representation, modes) in [
        (Representation::Continuous, &[Mode::Raise, Mode::Lower, Mode::Smooth][..]),
        (Representation::Binary, &[Mode::Paint, Mode::Erase]),
    ] {
        let before = planes(representation);
        let channels = representation.channels();
        for &mode in modes {
            let (after, changed) = applied(&before, &stroke(2, mode, &[[20.0, 30.0], [40.0, 30.0]]));
            assert!(changed.iter().any(|&c| c), "{mode:?}");
            let pairs = before.values.chunks(channels).zip(after.values.chunks(channels));
            for (pixel, (a, b)) in pairs.enumerate() {
                assert!(changed[pixel] || a == b, "{mode:?}: pixel {pixel}");
            }
        }
    }
}

#[test]
fn raising_adds_to_the_surface_and_lowering_carves() {
    let before = planes(Representation::Continuous);
    let at = |mode| inside(&applied(&before, &stroke(2, mode, &[[26.0, 36.0]])).0);
    let (plain, raised, lowered) = (inside(&before), at(Mode::Raise), at(Mode::Lower));
    // The brush displaces REACH x 2 world units x pi radius² / 3 (the mean weight) = 0.0083 of a volume of 8: 272 points. A
    // third of it at least is there, of what slopes and silhouettes leave of it.
    assert!(raised > plain + 90 && raised < plain + 350, "{plain} to {raised}");
    assert!(lowered + 90 < plain && lowered + 350 > plain, "{plain} to {lowered}");
}

#[test]
fn normals_follow_the_depth() {
    // A plane that faces the camera, raised in the middle: slopes are those of the weight.
    let mut flat = Planes::background(Representation::Continuous, SIZE, Similarity::default());
    let area = SIZE * SIZE;
    let pixels: &mut [[f32; 4]] = bytemuck::cast_slice_mut(&mut flat.values);
    pixels[2 * area..3 * area].fill([0.5, 0.0, 0.0, 1.0]);
    let (after, _) = applied(&flat, &stroke(2, Mode::Raise, &[[32.0, 32.0]]));
    let pixels: &[[f32; 4]] = bytemuck::cast_slice(after.view(2));
    for (row, column) in [(31, 36), (28, 30), (37, 35)] {
        let pixel = pixels[row * SIZE + column];
        let depth = |row: usize, column: usize| pixels[row * SIZE + column][0];
        let step = 2.0 / SIZE as f32;
        let u = 2.0 * (depth(row, column + 1) - depth(row, column - 1)) / (2.0 * step);
        let v = 2.0 * (depth(row - 1, column) - depth(row + 1, column)) / (2.0 * step);
        let expected = unit([u, v, 1.0]);
        for axis in 0..3 {
            // Roundings of depths near 0.5, of differences over a pixel.
            assert!((pixel[1 + axis] - expected[axis]).abs() < 1e-4, "{pixel:?} beside {expected:?}");
        }
    }
}

#[test]
fn smoothing_brings_depth_to_its_mean() {
    let mut rough = Planes::background(Representation::Continuous, SIZE, Similarity::default());
    let area = SIZE * SIZE;
    let pixels: &mut [[f32; 4]] = bytemuck::cast_slice_mut(&mut rough.values);
    let depth = |at: usize| if at.is_multiple_of(2) { 0.502 } else { 0.498 };
    (0..area).for_each(|at| pixels[2 * area + at] = [depth(at), 0.0, 0.0, 1.0]);
    let (after, _) = applied(&rough, &stroke(2, Mode::Smooth, &[[32.5, 32.5]]));
    let pixels: &[[f32; 4]] = bytemuck::cast_slice(after.view(2));
    // At weight 1, and at nearly half the radius. Of the alternation a Gaussian of two pixels' deviation that is cut at two
    // deviations leaves less than a hundredth.
    assert!((pixels[32 * SIZE + 32][0] - 0.5).abs() < 2e-5, "{:?}", pixels[32 * SIZE + 32]);
    let (rest, weight) = (pixels[32 * SIZE + 36][0] - 0.5, 1.0 - (4.0f32 / 9.0).powi(2));
    assert!((rest - 0.002 * (1.0 - weight * weight)).abs() < 2e-5, "{rest}");
}

#[test]
fn a_silhouette_is_painted_on_both_of_its_sides() {
    let before = planes(Representation::Binary);
    let (after, _) = applied(&before, &stroke(2, Mode::Erase, &[[20.0, 30.0]]));
    for row in 0..SIZE {
        for column in 0..SIZE {
            let (front, back) =
                (after.view(2)[row * SIZE + column], after.view(3)[row * SIZE + SIZE - 1 - column]);
            assert_eq!(front, back, "{row} {column}");
        }
    }
    assert!(inside(&after) < inside(&before));
}

#[test]
fn strokes_that_make_no_sense_are_told() {
    let good = stroke(0, Mode::Raise, &[[1.0, 1.0]]);
    let check = |stroke: Stroke, part: &str| {
        let found = fault(&[good.clone(), stroke], Representation::Continuous, SIZE);
        assert!(found.as_ref().is_some_and(|text| text.contains(part)), "{found:?} {part}");
    };
    check(Stroke { view: 6, ..good.clone() }, "stroke 1: view is 6");
    check(Stroke { radius: f32::NAN, ..good.clone() }, "radius");
    check(Stroke { radius: 1e9, ..good.clone() }, "radius");
    check(Stroke { amount: -0.1, ..good.clone() }, "amount");
    check(Stroke { points: vec![], ..good.clone() }, "points");
    check(Stroke { points: vec![[f32::INFINITY, 0.0]], ..good.clone() }, "points");
    check(Stroke { mode: Mode::Paint, ..good.clone() }, "continuous planes take raise");
    let many = vec![good.clone(); MOST_STROKES + 1];
    assert!(fault(&many, Representation::Continuous, SIZE).is_some());
}
