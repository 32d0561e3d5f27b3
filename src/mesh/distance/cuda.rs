//! Signed distances on a card: the launches of `kernels/distance.cu`.

use super::bvh::Bvh;
use super::lanes::WIDTH;
use super::{MeshDistance, Winding};
use crate::cuda::kernels::distance;
use crate::cuda::{Array, Launch, Queue, int};
use crate::error::Result;

/// Queries of a block.
const QUERIES: usize = 16;

/// The hierarchy on the card, component by component as [`super::lanes`] has it.
struct Tree {
    boxes: Array<f32>,
    children: Array<u32>,
    corners: Array<f32>,
    weights: Array<f32>,
    triangles: Array<u32>,
    /// Entries of a query's stack: a level of nodes takes one and adds [`WIDTH`].
    stack: usize,
}

impl Tree {
    fn new(queue: &Queue, bvh: &Bvh) -> Result<Self> {
        let (mut boxes, mut children) = (Vec::new(), Vec::new());
        for node in &bvh.nodes {
            node.low.iter().chain(&node.high).for_each(|lanes| boxes.extend_from_slice(lanes));
            children.extend(node.child.map(|child| child.bits()));
        }
        let (mut corners, mut weights, mut triangles) = (Vec::new(), Vec::new(), Vec::new());
        for leaf in &bvh.leaves {
            leaf.corners.iter().flatten().for_each(|lanes| corners.extend_from_slice(lanes));
            weights.extend_from_slice(&leaf.weight);
            triangles.extend_from_slice(&leaf.triangle);
        }
        // The kernels count in int.
        int(corners.len())?;
        let what = "the distance structure";
        Ok(Self {
            boxes: queue.array_from(&boxes, what)?,
            children: queue.array_from(&children, what)?,
            corners: queue.array_from(&corners, what)?,
            weights: queue.array_from(&weights, what)?,
            triangles: queue.array_from(&triangles, what)?,
            stack: (WIDTH - 1) * bvh.levels() + 1,
        })
    }
}

/// Distances of points to the surface, negative inside, in their order.
pub fn signed_distances(queue: &Queue, mesh: &MeshDistance, points: &[[f32; 3]]) -> Result<Vec<f32>> {
    let tree = Tree::new(queue, &mesh.bvh)?;
    let ([x, y, z], scale) = (mesh.frame.centre, mesh.frame.scale);
    let (count, stack) = (int(points.len())?, int(tree.stack)?);
    let there = queue.array_from(bytemuck::cast_slice::<_, f32>(points), "the points")?;
    let nearest = queue.array(points.len(), "the nearest triangles")?;
    let launch = Launch::blocks(points.len().div_ceil(QUERIES), (QUERIES * WIDTH) as u32);
    let shared = |entry: usize| launch.with_shared(QUERIES * tree.stack * entry);
    distance::nearest(
        queue,
        shared(size_of::<u64>()),
        there.read(),
        count,
        x,
        y,
        z,
        scale,
        tree.boxes.read(),
        tree.children.read(),
        tree.corners.read(),
        tree.triangles.read(),
        stack,
        nearest.write(),
    )?;
    let inside = queue.array(points.len(), "the sides of the points")?;
    match &mesh.winding {
        Winding::Crossings => distance::crossings(
            queue,
            shared(size_of::<u32>()),
            there.read(),
            count,
            x,
            y,
            z,
            scale,
            tree.boxes.read(),
            tree.children.read(),
            tree.corners.read(),
            tree.weights.read(),
            mesh.bvh.low[2],
            mesh.bvh.high[2],
            stack,
            inside.write(),
        )?,
        Winding::Dipoles(dipoles) => {
            let lanes: Vec<f32> = dipoles.iter().flat_map(|all| all.lanes().flatten().copied()).collect();
            let dipoles = queue.array_from(&lanes, "the distance structure")?;
            distance::dipoles(
                queue,
                shared(size_of::<u32>()),
                there.read(),
                count,
                x,
                y,
                z,
                scale,
                dipoles.read(),
                tree.children.read(),
                tree.corners.read(),
                tree.weights.read(),
                stack,
                inside.write(),
            )?;
        }
    }
    refine(queue, mesh, &there, &nearest, &inside)
}

/// Distances to the nearest triangles, exact as their type.
fn refine(
    queue: &Queue,
    mesh: &MeshDistance,
    points: &Array<f32>,
    nearest: &Array<u32>,
    inside: &Array<i32>,
) -> Result<Vec<f32>> {
    let count = nearest.len();
    let corners = queue.array_from(bytemuck::cast_slice::<_, f32>(&mesh.corners), "the corners")?;
    let numbers: Vec<u32> = (0..3 * mesh.corners.len() as u32).collect();
    let triangles = queue.array_from(&numbers, "the corners")?;
    let found = queue.array(count, "the distances")?;
    let closest = queue.array(3 * count, "the nearest points")?;
    distance::refine(
        queue,
        Launch::items(count, 128),
        points.read(),
        int(count)?,
        corners.read(),
        triangles.read(),
        nearest.read(),
        inside.read(),
        1,
        found.write(),
        closest.write(),
    )?;
    let mut distances = vec![0.0; count];
    queue.download(found.read(), &mut distances)?;
    Ok(distances)
}
