//! The features of the face: each takes the field so far and returns it with the feature.

use glam::{DVec3, dvec3};

use super::implicit::{bump, carve, ellipsoid, intersect, join, limb, mirrored, ramp};
use super::parameters::HeadParameters;

/// Sockets, eyeballs and lids. `p` is on the positive side.
pub fn eyes(m: &HeadParameters, head: f64, p: DVec3) -> f64 {
    let centre = dvec3(0.5 * m.eye_spacing, 0.0, 6.75 - m.socket_depth);
    let q = p - centre;
    let socket = ellipsoid(q, dvec3(-0.1, 0.15, 2.3), dvec3(2.05, 1.35, 2.0));
    let corner = ellipsoid(q, dvec3(-1.45, 0.3, 1.9), dvec3(0.7, 0.9, 1.3));
    let head = carve(carve(head, socket, 0.9), corner, 0.7);
    if q.length_squared() > 9.0 {
        return head;
    }
    let ball = q.length() - 1.22;
    // The opening is the almond between two parabolas, a little higher outside than inside.
    let t = q.x / 1.5;
    let tilt = 0.07 * q.x;
    let arch = (1.0 - t * t).max(-1.0);
    let upper = tilt + 0.6 * m.eye_opening * arch * (1.0 - 0.18 * t);
    let lower = tilt - 0.4 * m.eye_opening * arch * (1.0 + 0.2 * t);
    let opening = (q.y - upper).max(lower - q.y) * 0.85;
    let upper_lid = ellipsoid(q, dvec3(0.0, 0.1, 0.0), dvec3(1.62, 1.42, 1.42));
    let lids = carve(upper_lid, intersect(opening, -q.z, 0.2), 0.2);
    let crease = 0.14 * bump(q, dvec3(0.0, 1.02, 1.05), dvec3(1.7, 0.3, 0.9));
    let head = join(head, lids, 0.45) + crease;
    let pupil = ellipsoid(q, dvec3(0.0, 0.03, 1.3), dvec3(0.4, 0.4, 0.35));
    join(head, carve(ball, pupil, 0.15), 0.12)
}

/// Bridge, tip, wings and nostrils.
pub fn nose(m: &HeadParameters, head: f64, p: DVec3, side: DVec3) -> f64 {
    if p.z < 5.0 || p.y > 4.0 || p.y < -8.0 {
        return head;
    }
    // The nose hangs from its root: length and projection grow towards the tip.
    let down = ramp(0.8 - p.y, 0.0, 4.6);
    let shift = dvec3(0.0, (m.nose_length - 5.1) * down, -m.nose_projection * down);
    let (p, side) = (p + shift, side + shift);
    let wide = 0.5 * m.nose_width - 1.8;
    let hump = 0.5 * m.nose_bridge * bump(p, dvec3(0.0, -0.9, 9.8), dvec3(2.0, 2.2, 3.0));
    let bridge = limb(p, (dvec3(0.0, 1.0, 8.35), 0.72), (dvec3(0.0, -2.7, 10.75), 0.68)) - hump;
    let flank = limb(p, (dvec3(0.0, 0.4, 7.4), 1.0), (dvec3(0.0, -3.1, 9.0), 1.5 + 0.5 * wide));
    let tip = ellipsoid(p, dvec3(0.0, -3.3, 10.95), dvec3(1.0 + 0.3 * wide, 0.85, 1.0));
    let wing = ellipsoid(side, dvec3(1.15 + wide, -3.65, 9.85), dvec3(0.62, 0.72, 1.1));
    let columella = limb(p, (dvec3(0.0, -3.8, 10.9), 0.5), (dvec3(0.0, -4.4, 9.8), 0.55));
    let nose = join(join(bridge, flank, 1.0), tip, 1.0);
    let nose = join(join(nose, wing, 0.8), columella, 0.5);
    let head = join(head, nose, 0.8);
    let nostril = ellipsoid(side, dvec3(0.76 + 0.6 * wide, -4.38, 10.25), dvec3(0.36, 0.42, 0.6));
    let fold = limb(side, (dvec3(2.0 + wide, -3.4, 9.6), 0.1), (dvec3(3.3, -6.0, 9.4), 0.1));
    let head = carve(head, nostril, 0.3);
    head + 0.12 * (1.0 - ramp(fold, 0.0, 0.7))
}

/// Lips, mouth line, philtrum and the fold above the chin.
pub fn mouth(m: &HeadParameters, head: f64, p: DVec3) -> f64 {
    if p.z < 5.0 || p.y > -3.0 || p.y < -11.0 {
        return head;
    }
    let half = 0.5 * m.mouth_width;
    // Straightens the dental arch, so that the lips can be drawn along a line.
    let u = p.x / half;
    let q = dvec3(mirrored(p.x, 0.2), p.y, p.z + 1.0 * u * u);
    let bow = (1.0 - 4.0 * u * u).max(0.0);
    let line = -6.75 + 0.14 * u * u - 0.08 * bow * bow;
    let v = q.y - line;
    let taper = (1.0 - u * u).max(0.0);
    let full = m.lips * (0.3 + 0.7 * taper);
    let barrel = ellipsoid(p, dvec3(0.0, -6.6, 6.3), dvec3(3.7, 3.1, 4.2));
    let head = join(head, barrel, 1.4);
    // Each lip is a roll: a thick elliptic rod along the arch, thinning to the corners.
    let roll = |y: f64, z: f64, height: f64, depth: f64| {
        let r = dvec3(0.0, (v - y * full) / height, (q.z - z) / depth);
        (r.length() - full) * height.min(depth)
    };
    let ends = 0.9 * (q.x - half);
    let upper =
        roll(0.36, 10.42, 0.5, 0.7) - 0.12 * bow * bump(p, dvec3(0.0, -6.6, 10.8), dvec3(0.7, 0.5, 1.0));
    let lower = roll(-0.52, 10.2, 0.62, 0.84);
    let lips = intersect(join(upper, lower, 0.15), ends, 0.5);
    let head = join(head, lips, 0.14);
    let reach = ramp(1.08 - u.abs(), 0.0, 0.25);
    let slit = (v * v + 0.03 * (q.z - 11.0) * (q.z - 11.0)).sqrt();
    let head = head + 0.18 * reach * (1.0 - ramp(slit, 0.0, 0.3));
    let groove = bump(p, dvec3(0.0, -5.25, 10.3), dvec3(0.6, 1.2, 1.5));
    let ridge = bump(q, dvec3(0.6, -5.4, 10.3), dvec3(0.6, 1.1, 1.5));
    let corner = bump(q, dvec3(half + 0.2, -6.7, 10.0), dvec3(0.9, 1.1, 1.8));
    let fold = bump(p, dvec3(0.0, -8.55, 10.2), dvec3(2.4, 0.75, 1.6));
    head + 0.2 * groove - 0.1 * ridge + 0.12 * corner + 0.35 * fold
}

/// Ears. `p` is on the positive side.
pub fn ears(m: &HeadParameters, head: f64, p: DVec3) -> f64 {
    let root = dvec3(6.75 + 0.25 * (m.skull_width - 15.2), -1.2, -0.6);
    let d = (p - root) / m.ear_size;
    // Ears add nothing to what lies deep inside the head or far from them.
    if head < -1.5 || d.length_squared() > 64.0 {
        return head;
    }
    // Cosine and sine of the angle by which the ear leans back.
    let (cosine, sine) = (0.9806, 0.1961);
    let (back, up) = (-d.z * cosine - d.y * sine, d.y * cosine - d.z * sine);
    let flare = 1.0 / (1.0 + m.ear_flare * m.ear_flare).sqrt();
    let along = (back + d.x * m.ear_flare) * flare;
    let out = (d.x - back * m.ear_flare) * flare;
    // Egg-shaped: wider above than below.
    let shape = auricle(dvec3((along - 0.95) / (1.0 + 0.09 * up), up - 0.1, out - 0.55));
    join(head, shape * m.ear_size, 0.5)
}

/// The outer ear: a plate with helix, antihelix, concha, tragus and lobe. In `e`, x runs backwards
/// along the ear, y up it and z out of it, in centimetres from its middle.
fn auricle(e: DVec3) -> f64 {
    let plate = ellipsoid(e, DVec3::ZERO, dvec3(1.75, 3.1, 0.42));
    let stem = ellipsoid(e, dvec3(-0.9, -0.3, -0.9), dvec3(1.0, 2.0, 1.0));
    let lobe = ellipsoid(e, dvec3(-0.45, -2.7, 0.05), dvec3(0.85, 0.85, 0.38));
    // The helix is a roll along the outline, to first order; it fades towards the lobe.
    let outline = ellipsoid(dvec3(e.x, e.y, 0.0), DVec3::ZERO, dvec3(1.62, 2.95, 1.0));
    let thickness = 0.36 * ramp(e.y + 0.9 * e.x, -3.2, -0.5) + 0.05;
    let helix = (outline * outline + (e.z - 0.25) * (e.z - 0.25)).sqrt() - thickness;
    let fold = dvec3((e.x + 0.25) / 0.95, (e.y + 0.1) / 1.75, 0.0).length() - 1.0;
    let antihelix = (fold * fold + (e.z - 0.2) * (e.z - 0.2)).sqrt() - 0.26 * ramp(e.x, -0.5, 0.3);
    let concha = ellipsoid(e, dvec3(-0.45, -0.45, 0.55), dvec3(0.85, 1.3, 0.75));
    let tragus = ellipsoid(e, dvec3(-1.35, -0.75, 0.2), dvec3(0.5, 0.65, 0.4));
    let rim = join(join(join(plate, stem, 0.6), helix, 0.2), lobe, 0.4);
    join(carve(join(rim, antihelix, 0.25), concha, 0.25), tragus, 0.25)
}
