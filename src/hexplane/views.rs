//! The six orthographic cameras (docs/method.md, "Frame and views").

/// One camera outside the cube [-1,1]^3, looking in. (right, up, forward) are world directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub name: &'static str,
    pub right: [f32; 3],
    pub up: [f32; 3],
    pub forward: [f32; 3],
}

const fn view(name: &'static str, forward: [f32; 3], right: [f32; 3], up: [f32; 3]) -> View {
    View { name, right, up, forward }
}

/// In the order of every file and tensor.
pub const VIEWS: [View; 6] = [
    view("top", [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]),
    view("bottom", [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
    view("front", [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    view("back", [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    view("left", [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]),
    view("right", [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
];

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

impl View {
    /// (u, v, t): u along right and v along up in [-1,1], depth t in \[0,1\] from the near face.
    pub fn project(&self, p: [f32; 3]) -> [f32; 3] {
        [dot(self.right, p), dot(self.up, p), 0.5 * (1.0 + dot(self.forward, p))]
    }

    /// The world point at (u, v, t); the inverse of `project`.
    pub fn unproject(&self, [u, v, t]: [f32; 3]) -> [f32; 3] {
        let w = 2.0 * t - 1.0;
        std::array::from_fn(|axis| u * self.right[axis] + v * self.up[axis] + w * self.forward[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_as_documented() {
        for view in VIEWS {
            for (a, b) in [(view.right, view.up), (view.up, view.forward), (view.right, view.forward)] {
                assert_eq!(dot(a, b), 0.0, "{}", view.name);
            }
            let p = [0.25, -0.5, 0.75];
            assert_eq!(view.unproject(view.project(p)), p, "{}", view.name);
        }
    }

    #[test]
    fn the_left_camera_stands_on_the_heads_own_left() {
        // At +x: a point at x = 1 is nearest.
        assert_eq!(VIEWS[4].project([1.0, 0.0, 0.0])[2], 0.0);
    }

    #[test]
    fn the_kernels_have_the_same_cameras() {
        let header = include_str!("../../kernels/views.cuh");
        let is_defined = |name: &str, value: u32| {
            let line = format!("constexpr unsigned {name} = 0x{value:02X};");
            assert!(header.lines().any(|found| found == line), "kernels/views.cuh lacks `{line}`");
        };
        let check = |name: &str, direction: fn(&View) -> [f32; 3]| {
            let (mut axes, mut negative) = (0, 0);
            for (index, view) in VIEWS.iter().enumerate() {
                let direction = direction(view);
                let axis = direction.iter().position(|&c| c != 0.0).expect("a view looks along an axis");
                axes |= (axis as u32) << (2 * index);
                negative |= u32::from(direction[axis] < 0.0) << index;
            }
            is_defined(&format!("{name}_AXES"), axes);
            is_defined(&format!("{name}_NEGATIVE"), negative);
        };
        check("RIGHT", |view| view.right);
        check("DOWN", |view| view.up.map(|c| -c));
        check("FORWARD", |view| view.forward);
    }
}
