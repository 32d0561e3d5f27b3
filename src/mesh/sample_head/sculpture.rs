//! The head as an implicit surface: skull, face, neck and ears as smooth unions of simple bodies.
//!
//! Centimetres; x to the head's own left, y up, z forward. The eye line is y = 0, the ear canals
//! lie near z = 0. The measures follow common anthropometric means of adults.

use glam::{DVec3, dvec3};

use super::features;
use super::implicit::{bump, ellipsoid, intersect, join, limb, mirrored, ramp};
use super::parameters::HeadParameters;

/// Height of the cut through the neck.
pub const BASE: f64 = -17.5;

/// A head ready to be evaluated.
pub struct Sculpture {
    pub parameters: HeadParameters,
    /// Usual length of the lower face over this head's: points are brought to the usual face first.
    face_shrink: f64,
}

impl Sculpture {
    pub fn new(parameters: HeadParameters) -> Self {
        let usual = HeadParameters::default();
        Self { parameters, face_shrink: usual.face_length / parameters.face_length }
    }

    /// Negative inside; close to a signed distance (in centimetres) near the surface.
    pub fn field(&self, p: DVec3) -> f64 {
        // Asymmetry leans the lower midface sideways; the face length stretches what lies below the eyes.
        let forward = ramp(p.z, 5.0, 11.0);
        let x = p.x - self.parameters.asymmetry * forward * ramp(-p.y, 0.0, 8.0);
        let stretch = 1.0 + (self.face_shrink - 1.0) * ramp(-p.y, 0.0, 6.0);
        let face = dvec3(x, if p.y < 0.0 { p.y * stretch } else { p.y }, p.z);
        let side = dvec3(mirrored(x, 0.35), face.y, face.z);
        let skull = self.skull(dvec3(p.x, face.y, p.z), side);
        let head = self.mass_of_face(skull, face, side);
        let head = join(head, self.neck(p), 1.6);
        let head = features::eyes(&self.parameters, head, dvec3(x.abs(), face.y, face.z));
        let head = features::nose(&self.parameters, head, face, side);
        let head = features::mouth(&self.parameters, head, face);
        let head = features::ears(&self.parameters, head, dvec3(p.x.abs(), face.y, p.z));
        intersect(head, BASE - p.y, 0.5)
    }

    /// Cranium, forehead, occiput and temples.
    fn skull(&self, p: DVec3, side: DVec3) -> f64 {
        let m = &self.parameters;
        let half_width = 0.5 * m.skull_width;
        let back = m.skull_length - 9.8;
        let centre = dvec3(0.0, 3.6, 0.5 * (9.0 - back));
        let vault = ellipsoid(p, centre, dvec3(half_width, m.skull_height - 3.6, 0.5 * (9.0 + back)));
        let lean = m.forehead_slope * ramp(p.y, 1.5, 9.0);
        let frontal =
            ellipsoid(p + dvec3(0.0, 0.0, lean), dvec3(0.0, 4.4, 3.4), dvec3(half_width - 1.35, 5.6, 6.1));
        let occiput =
            ellipsoid(p, dvec3(0.0, 1.2, -0.55 * back + 1.2), dvec3(half_width - 1.2, 5.6, 0.5 * back + 0.2));
        let skull = join(join(vault, frontal, 1.8), occiput, 2.0);
        skull + 0.45 * bump(side, dvec3(6.6, 1.8, 5.0), dvec3(3.0, 3.4, 3.2))
    }

    /// Midface, cheekbones, jaw and chin, joined to the skull, with the brow.
    fn mass_of_face(&self, skull: f64, p: DVec3, side: DVec3) -> f64 {
        let m = &self.parameters;
        let jaw = 0.5 * m.jaw_width;
        let cheekbone = m.cheekbones;
        let midface = ellipsoid(p, dvec3(0.0, -2.0, 3.4), dvec3(5.7, 6.5, 5.5));
        let maxilla = ellipsoid(p, dvec3(0.0, -5.4, 5.2), dvec3(3.7, 4.4, 4.7));
        let floor = ellipsoid(p, dvec3(0.0, -6.0, 2.6), dvec3(jaw - 0.5, 4.2, 6.2));
        let cheek = ellipsoid(side, dvec3(2.7, -4.4, 4.9), dvec3(2.6, 3.6, 3.5) + 0.4 * m.cheeks);
        let masseter = ellipsoid(side, dvec3(jaw - 1.6, -4.4, 2.4), dvec3(1.4, 3.4, 2.3));
        let gonion = dvec3(jaw - 1.1, -7.0, 1.3);
        let chin_side = dvec3(1.2, -9.9, 7.7 + m.chin_projection);
        let body = limb(side, (gonion, 1.15), (chin_side, 1.45));
        let ramus = limb(side, (gonion, 1.1), (dvec3(5.9, -1.5, 0.6), 1.0));
        let throat = ellipsoid(p, dvec3(0.0, -7.6, 3.6), dvec3(jaw - 2.2, 2.6, 5.0));
        let chin = ellipsoid(p, dvec3(0.0, -9.95, 8.35 + m.chin_projection), dvec3(m.chin_width, 1.6, 1.75));
        let malar = dvec3(4.35 + 0.6 * cheekbone, -2.3, 6.3 + 0.5 * cheekbone);
        let zygoma = limb(side, (malar, 1.4), (dvec3(5.9 + cheekbone * 0.7, -1.4, 1.6), 0.8));
        let face = join(skull, midface, 1.6);
        let face = join(face, join(floor, maxilla, 2.0), 1.6);
        let face = join(join(face, cheek, 2.0), masseter, 1.5);
        let face = join(face, join(body, ramus, 1.0), 2.0);
        let face = join(join(face, throat, 1.5), chin, 1.5);
        let face = join(face, zygoma, 2.2);
        self.brow(face, side)
    }

    /// The brow ridge over the sockets, and the glabella between its halves.
    fn brow(&self, face: f64, side: DVec3) -> f64 {
        let strength = 0.35 * (self.parameters.brow - 1.0);
        let inner = dvec3(1.1, 1.75, 8.35 + strength);
        let peak = dvec3(3.7, 2.35, 7.45 + strength);
        let outer = dvec3(5.0, 1.1, 5.5);
        let ridge = join(limb(side, (inner, 0.85), (peak, 0.9)), limb(side, (peak, 0.9), (outer, 0.5)), 0.5);
        join(face, ridge, 1.6)
    }

    /// Neck with the sternomastoid muscles, the larynx and the spread towards the shoulders.
    fn neck(&self, p: DVec3) -> f64 {
        let side = dvec3(mirrored(p.x, 0.5), p.y, p.z);
        let half = 0.5 * self.parameters.neck_width;
        let column = limb(p, (dvec3(0.0, -3.0, -1.6), half - 0.6), (dvec3(0.0, -20.0, -3.4), half - 0.1));
        let muscle = limb(side, (dvec3(half - 0.3, -4.0, -2.4), 1.0), (dvec3(1.4, -19.0, 1.6), 1.1));
        let trapezius = limb(side, (dvec3(2.4, -5.0, -5.0), 2.2), (dvec3(half - 1.6, -20.5, -4.8), 2.6));
        let larynx = limb(p, (dvec3(0.0, -12.2, 2.5), 0.9), (dvec3(0.0, -16.0, 1.9), 1.1));
        let neck = join(join(column, trapezius, 2.5), muscle, 1.5);
        join(neck, larynx, 2.0)
    }
}
