//! What distinguishes one head of the family from another.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// The measures of a head, in centimetres of a grown person unless said otherwise. Every value
/// that [`HeadParameters::from_seed`] can draw gives a plausible head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadParameters {
    /// Breadth of the cranium.
    pub skull_width: f64,
    /// Glabella to occiput.
    pub skull_length: f64,
    /// Eye line to vertex.
    pub skull_height: f64,
    /// How far the forehead leans back at the hairline.
    pub forehead_slope: f64,
    /// Eye line to the underside of the chin.
    pub face_length: f64,
    /// Breadth over the angles of the jaw.
    pub jaw_width: f64,
    /// How far the chin lies forward of its usual place.
    pub chin_projection: f64,
    /// Half breadth of the chin.
    pub chin_width: f64,
    /// Nasion to subnasale.
    pub nose_length: f64,
    /// Breadth over the nostril wings.
    pub nose_width: f64,
    /// How far the tip lies forward of its usual place.
    pub nose_projection: f64,
    /// Height of the hump (negative: hollow) of the bridge.
    pub nose_bridge: f64,
    /// Strength of the brow ridge: 1 is usual.
    pub brow: f64,
    /// Pupil to pupil.
    pub eye_spacing: f64,
    /// How far the eyes lie behind their usual place.
    pub socket_depth: f64,
    /// Opening of the lids: 1 is usual.
    pub eye_opening: f64,
    /// How far the cheekbones stand out beyond their usual place.
    pub cheekbones: f64,
    /// Fullness of the cheeks: 0 is usual, below it hollow.
    pub cheeks: f64,
    /// Corner to corner.
    pub mouth_width: f64,
    /// Fullness of the lips: 1 is usual.
    pub lips: f64,
    /// Length of the ear against the usual 6.3 cm.
    pub ear_size: f64,
    /// Flare of the ear from the side of the head, as a tangent.
    pub ear_flare: f64,
    /// Breadth of the neck.
    pub neck_width: f64,
    /// Sideways drift of nose tip and chin: heads are not quite symmetric.
    pub asymmetry: f64,
}

impl Default for HeadParameters {
    fn default() -> Self {
        Self {
            skull_width: 15.2,
            skull_length: 19.6,
            skull_height: 11.9,
            forehead_slope: 0.0,
            face_length: 11.6,
            jaw_width: 11.0,
            chin_projection: 0.0,
            chin_width: 2.3,
            nose_length: 5.1,
            nose_width: 3.6,
            nose_projection: 0.0,
            nose_bridge: 0.0,
            brow: 1.0,
            eye_spacing: 6.4,
            socket_depth: 0.0,
            eye_opening: 1.0,
            cheekbones: 0.0,
            cheeks: 0.0,
            mouth_width: 5.2,
            lips: 1.0,
            ear_size: 1.0,
            ear_flare: 0.45,
            neck_width: 11.2,
            asymmetry: 0.0,
        }
    }
}

impl HeadParameters {
    /// The head of a seed: 0 is the default one, the others vary every measure about it.
    pub fn from_seed(seed: u64) -> Self {
        let usual = Self::default();
        if seed == 0 {
            return usual;
        }
        let mut rng = Rng::named(seed, "sample head");
        // The mean of two uniforms: middling heads are commoner than extreme ones, none is wild.
        let mut about =
            |centre: f64, reach: f64| centre + reach * (rng.uniform_f64() + rng.uniform_f64() - 1.0);
        Self {
            skull_width: about(usual.skull_width, 1.1),
            skull_length: about(usual.skull_length, 1.2),
            skull_height: about(usual.skull_height, 0.8),
            forehead_slope: about(0.2, 0.9),
            face_length: about(usual.face_length, 0.9),
            jaw_width: about(usual.jaw_width, 1.3),
            chin_projection: about(0.1, 0.5),
            chin_width: about(usual.chin_width, 0.5),
            nose_length: about(usual.nose_length, 0.6),
            nose_width: about(usual.nose_width, 0.6),
            nose_projection: about(0.0, 0.5),
            nose_bridge: about(0.0, 0.3),
            brow: about(usual.brow, 0.6),
            eye_spacing: about(usual.eye_spacing, 0.4),
            socket_depth: about(0.0, 0.3),
            eye_opening: about(usual.eye_opening, 0.25),
            cheekbones: about(0.0, 0.5),
            cheeks: about(0.0, 0.5),
            mouth_width: about(usual.mouth_width, 0.6),
            lips: about(usual.lips, 0.35),
            ear_size: about(usual.ear_size, 0.15),
            ear_flare: about(usual.ear_flare, 0.25),
            neck_width: about(usual.neck_width, 1.6),
            asymmetry: about(0.0, 0.2),
        }
    }
}
