//! A bounding volume hierarchy with eight boxes a node and eight triangles a leaf.

use rayon::prelude::*;

use super::lanes::{self, Lanes, Lanes3, WIDTH};

/// Marks a reference to a leaf; the rest is an index.
const LEAF: u32 = 1 << 31;
/// Candidate splits an axis of the surface-area heuristic.
const BINS: usize = 16;
/// Below this depth of wide nodes ranges are halved, which bounds the depth whatever the input.
const HEURISTIC_DEPTH: usize = 12;
/// Ranges of this many triangles are worth a task of their own.
const PARALLEL: usize = 4096;

/// Eight children. Unused lanes have an empty box.
pub struct Node {
    pub low: Lanes3,
    pub high: Lanes3,
    pub child: [Child; WIDTH],
}

#[derive(Clone, Copy)]
pub struct Child(u32);

pub enum Kind {
    Node(usize),
    Leaf(usize),
}

impl Child {
    /// The index of a node, or [`LEAF`] and that of a leaf.
    pub fn bits(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub fn kind(self) -> Kind {
        let index = (self.0 & !LEAF) as usize;
        if self.0 & LEAF == 0 { Kind::Node(index) } else { Kind::Leaf(index) }
    }
}

/// Up to eight triangles; unused lanes repeat the first, with weight 0.
pub struct Leaf {
    pub corners: [Lanes3; 3],
    /// The part of the triangle in the winding number: 1, -1 (turned round) or 0.
    pub weight: Lanes,
    pub triangle: [u32; WIDTH],
}

/// Children come after their parent; the leaves below a child are consecutive.
pub struct Bvh {
    pub nodes: Vec<Node>,
    pub leaves: Vec<Leaf>,
    pub low: [f32; 3],
    pub high: [f32; 3],
}

/// What to look at next, nearest last.
#[derive(Default)]
pub struct Stack(Vec<(f32, Child)>);

#[derive(Clone, Copy, Debug)]
pub struct Nearest {
    /// Squared.
    pub distance: f32,
    pub triangle: u32,
}

impl Bvh {
    /// `corners` and `weights` of each triangle; at least one triangle, all finite.
    pub fn new(corners: &[[[f32; 3]; 3]], weights: &[i8]) -> Self {
        let mut items: Vec<Item> = corners.iter().enumerate().map(Item::new).collect();
        let all = Box3::around(&items);
        let tree = Tree::Node(children(&mut items, 0));
        let mut bvh = Self { nodes: Vec::new(), leaves: Vec::new(), low: all.low, high: all.high };
        bvh.flatten(&tree, corners, weights);
        bvh
    }

    /// The nearest triangle, if it is nearer than `best`.
    #[inline(always)]
    pub fn nearest(&self, p: [f32; 3], mut best: Nearest, stack: &mut Stack) -> Nearest {
        let stack = &mut stack.0;
        stack.clear();
        stack.push((0.0, Child(0)));
        while let Some((bound, child)) = stack.pop() {
            if bound >= best.distance {
                continue;
            }
            match child.kind() {
                Kind::Leaf(leaf) => {
                    let leaf = &self.leaves[leaf];
                    let distances = lanes::to_triangles(p, &leaf.corners);
                    for (distance, triangle) in distances.into_iter().zip(leaf.triangle) {
                        if distance < best.distance {
                            best = Nearest { distance, triangle };
                        }
                    }
                }
                Kind::Node(node) => {
                    let node = &self.nodes[node];
                    let bounds = lanes::to_boxes(p, &node.low, &node.high);
                    let first = stack.len();
                    for (bound, child) in bounds.into_iter().zip(node.child) {
                        if bound < best.distance {
                            stack.push((bound, child));
                            let mut at = stack.len() - 1;
                            while at > first && stack[at - 1].0 < stack[at].0 {
                                stack.swap(at - 1, at);
                                at -= 1;
                            }
                        }
                    }
                }
            }
        }
        best
    }

    /// Nodes on the longest way from the root to a leaf.
    pub fn levels(&self) -> usize {
        let mut level = vec![1; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            // An unused lane names the root, which has been passed.
            for child in node.child {
                if let Kind::Node(below) = child.kind()
                    && below > index
                {
                    level[below] = level[index] + 1;
                }
            }
        }
        level.into_iter().max().unwrap_or(0)
    }

    fn flatten(&mut self, tree: &Tree, corners: &[[[f32; 3]; 3]], weights: &[i8]) -> Child {
        match tree {
            Tree::Leaf(triangles) => {
                self.leaves.push(Leaf::new(triangles, corners, weights));
                Child(LEAF | (self.leaves.len() - 1) as u32)
            }
            Tree::Node(children) => {
                let index = self.nodes.len();
                self.nodes.push(Node {
                    low: [[f32::INFINITY; WIDTH]; 3],
                    high: [[f32::NEG_INFINITY; WIDTH]; 3],
                    child: [Child(0); WIDTH],
                });
                for (lane, (bounds, child)) in children.iter().enumerate() {
                    let child = self.flatten(child, corners, weights);
                    let node = &mut self.nodes[index];
                    node.child[lane] = child;
                    for axis in 0..3 {
                        node.low[axis][lane] = bounds.low[axis];
                        node.high[axis][lane] = bounds.high[axis];
                    }
                }
                Child(index as u32)
            }
        }
    }
}

impl Leaf {
    fn new(triangles: &[u32], corners: &[[[f32; 3]; 3]], weights: &[i8]) -> Self {
        let mut leaf =
            Self { corners: [[[0.0; WIDTH]; 3]; 3], weight: [0.0; WIDTH], triangle: [triangles[0]; WIDTH] };
        leaf.triangle[..triangles.len()].copy_from_slice(triangles);
        for lane in 0..WIDTH {
            let triangle = leaf.triangle[lane] as usize;
            for (corner, position) in corners[triangle].iter().enumerate() {
                for (axis, coordinate) in position.iter().enumerate() {
                    leaf.corners[corner][axis][lane] = *coordinate;
                }
            }
            if lane < triangles.len() {
                leaf.weight[lane] = f32::from(weights[triangle]);
            }
        }
        leaf
    }

    /// The three corners of a lane.
    #[inline(always)]
    pub fn corners_of(&self, lane: usize) -> [[f32; 3]; 3] {
        self.corners.map(|corner| corner.map(|axis| axis[lane]))
    }
}

enum Tree {
    Leaf(Vec<u32>),
    Node(Vec<(Box3, Tree)>),
}

#[derive(Clone, Copy)]
struct Box3 {
    low: [f32; 3],
    high: [f32; 3],
}

impl Box3 {
    const EMPTY: Self = Self { low: [f32::INFINITY; 3], high: [f32::NEG_INFINITY; 3] };

    fn join(&self, other: &Self) -> Self {
        Self {
            low: std::array::from_fn(|axis| lanes::smaller(self.low[axis], other.low[axis])),
            high: std::array::from_fn(|axis| lanes::larger(self.high[axis], other.high[axis])),
        }
    }

    fn around(items: &[Item]) -> Self {
        items.iter().fold(Self::EMPTY, |all, item| all.join(&item.bounds))
    }

    fn of_centres(items: &[Item]) -> Self {
        items.iter().fold(Self::EMPTY, |all, item| {
            let centre = item.centre();
            all.join(&Self { low: centre, high: centre })
        })
    }

    /// Half the surface; 0 for an empty box.
    fn area(&self) -> f32 {
        let [x, y, z] = std::array::from_fn(|axis| lanes::larger(self.high[axis] - self.low[axis], 0.0));
        x * y + y * z + z * x
    }
}

#[derive(Clone, Copy)]
struct Item {
    bounds: Box3,
    triangle: u32,
}

impl Item {
    fn new((triangle, corners): (usize, &[[f32; 3]; 3])) -> Self {
        let bounds = corners.iter().fold(Box3::EMPTY, |all, &p| all.join(&Box3 { low: p, high: p }));
        Self { bounds, triangle: triangle as u32 }
    }

    /// Of the box.
    fn centre(&self) -> [f32; 3] {
        std::array::from_fn(|axis| 0.5 * (self.bounds.low[axis] + self.bounds.high[axis]))
    }
}

/// Divides a range into up to eight: each time the part of the most expected work is split.
fn children(items: &mut [Item], depth: usize) -> Vec<(Box3, Tree)> {
    let parallel = items.len() >= PARALLEL;
    let mut parts = vec![(Box3::around(items), items)];
    while parts.len() < WIDTH {
        let work = |(bounds, items): &(Box3, &mut [Item])| bounds.area() * items.len() as f32;
        let splittable = (0..parts.len()).filter(|&part| parts[part].1.len() > WIDTH);
        let Some(part) = splittable.max_by(|&a, &b| work(&parts[a]).total_cmp(&work(&parts[b]))) else {
            break;
        };
        let (_, items) = parts.swap_remove(part);
        let middle = split(items, depth);
        let (left, right) = items.split_at_mut(middle);
        parts.push((Box3::around(left), left));
        parts.push((Box3::around(right), right));
    }
    let below = |(bounds, items): (Box3, &mut [Item])| {
        let tree = if items.len() <= WIDTH {
            Tree::Leaf(items.iter().map(|item| item.triangle).collect())
        } else {
            Tree::Node(children(items, depth + 1))
        };
        (bounds, tree)
    };
    if parallel { parts.into_par_iter().map(below).collect() } else { parts.into_iter().map(below).collect() }
}

/// Reorders a range around the cheapest of the binned splits and returns where the second half
/// begins; neither half is empty.
fn split(items: &mut [Item], depth: usize) -> usize {
    let centres = Box3::of_centres(items);
    let best = if depth < HEURISTIC_DEPTH { cheapest(items, &centres) } else { None };
    if let Some((axis, bin)) = best {
        let mut middle = 0;
        for at in 0..items.len() {
            if bin_of(&items[at], &centres, axis) <= bin {
                items.swap(at, middle);
                middle += 1;
            }
        }
        return middle;
    }
    let extent = |axis: &usize| centres.high[*axis] - centres.low[*axis];
    let axis = (0..3).max_by(|a, b| extent(a).total_cmp(&extent(b))).unwrap_or(0);
    let middle = items.len() / 2;
    items.select_nth_unstable_by(middle, |a, b| {
        (a.centre()[axis].total_cmp(&b.centre()[axis])).then(a.triangle.cmp(&b.triangle))
    });
    middle
}

fn bin_of(item: &Item, centres: &Box3, axis: usize) -> usize {
    let extent = centres.high[axis] - centres.low[axis];
    let t = (item.centre()[axis] - centres.low[axis]) / extent;
    ((t * BINS as f32) as usize).min(BINS - 1)
}

/// The axis and the last bin of the first half with the least surface-area cost; `None` where all
/// centres are one point.
fn cheapest(items: &[Item], centres: &Box3) -> Option<(usize, usize)> {
    let mut best: Option<(f32, usize, usize)> = None;
    for axis in 0..3 {
        // Too small to divide by.
        if centres.high[axis] - centres.low[axis] <= f32::MIN_POSITIVE {
            continue;
        }
        let mut bins = [(Box3::EMPTY, 0usize); BINS];
        for item in items {
            let bin = &mut bins[bin_of(item, centres, axis)];
            *bin = (bin.0.join(&item.bounds), bin.1 + 1);
        }
        let mut right = [(Box3::EMPTY, 0usize); BINS + 1];
        for bin in (0..BINS).rev() {
            right[bin] = (right[bin + 1].0.join(&bins[bin].0), right[bin + 1].1 + bins[bin].1);
        }
        let mut left = (Box3::EMPTY, 0);
        for bin in 0..BINS - 1 {
            left = (left.0.join(&bins[bin].0), left.1 + bins[bin].1);
            let (after, count) = right[bin + 1];
            if left.1 == 0 || count == 0 {
                continue;
            }
            let leaves = |count: usize| count.div_ceil(WIDTH) as f32;
            let cost = left.0.area() * leaves(left.1) + after.area() * leaves(count);
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, axis, bin));
            }
        }
    }
    best.map(|(_, axis, bin)| (axis, bin))
}
