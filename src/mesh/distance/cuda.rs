//! Distances on a card: the launches of `kernels/distance.cu`.

use super::bvh::Bvh;
use super::lanes::WIDTH;
use super::{Closest, MeshDistance, Winding};
use crate::cuda::kernels::distance;
use crate::cuda::{Array, Launch, Queue, Read, int};
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

/// A mesh in the memory of a card, for any number of queries.
pub struct CardMesh<'a> {
    queue: &'a Queue,
    mesh: &'a MeshDistance,
    tree: Tree,
    /// Corner and axis of each triangle, in the units of the mesh.
    corners: Array<f32>,
    /// 0, 1, 2, ...: the corners are listed triangle by triangle.
    numbers: Array<u32>,
}

/// Points on the card.
struct Queries {
    points: Array<f32>,
    len: usize,
    count: i32,
}

impl<'a> CardMesh<'a> {
    pub fn new(queue: &'a Queue, mesh: &'a MeshDistance) -> Result<Self> {
        let tree = Tree::new(queue, &mesh.bvh)?;
        let corners = queue.array_from(bytemuck::cast_slice(&mesh.corners), "the corners")?;
        let numbers: Vec<u32> = (0..3 * mesh.corners.len() as u32).collect();
        let numbers = queue.array_from(&numbers, "the corners")?;
        Ok(Self { queue, mesh, tree, corners, numbers })
    }

    /// Distances of points to the surface, negative inside, in their order.
    pub fn signed_distances(&self, points: &[[f32; 3]]) -> Result<Vec<f32>> {
        let queries = self.queries(points)?;
        let (nearest, inside) = (self.nearest(&queries)?, self.sides(&queries)?);
        let (found, _) = self.refine(&queries, &nearest, Some(&inside))?;
        self.download(&found)
    }

    /// The nearest points of the surface, in the order of `points`.
    pub fn closest_of(&self, points: &[[f32; 3]]) -> Result<Vec<Closest>> {
        let queries = self.queries(points)?;
        let nearest = self.nearest(&queries)?;
        let (distances, closest) = self.refine(&queries, &nearest, None)?;
        let (triangles, distances) = (self.download(&nearest)?, self.download(&distances)?);
        let found: Vec<f32> = self.download(&closest)?;
        let answers = triangles.into_iter().zip(distances).zip(found.chunks_exact(3));
        let answer = |((triangle, distance), p): ((u32, f32), &[f32])| Closest {
            distance,
            triangle,
            point: [p[0], p[1], p[2]],
        };
        Ok(answers.map(answer).collect())
    }

    /// Which of the points are inside, in their order.
    pub fn inside(&self, points: &[[f32; 3]]) -> Result<Vec<bool>> {
        let sides = self.sides(&self.queries(points)?)?;
        Ok(self.download(&sides)?.into_iter().map(|inside: i32| inside != 0).collect())
    }

    fn queries(&self, points: &[[f32; 3]]) -> Result<Queries> {
        let there = self.queue.array_from(bytemuck::cast_slice(points), "the points")?;
        Ok(Queries { points: there, len: points.len(), count: int(points.len())? })
    }

    fn download<T: bytemuck::Pod>(&self, array: &Array<T>) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); array.len()];
        self.queue.download(array.read(), &mut values)?;
        Ok(values)
    }

    /// With stacks of `entry` bytes an entry.
    fn launch(&self, queries: &Queries, entry: usize) -> Launch {
        let launch = Launch::blocks(queries.len.div_ceil(QUERIES), (QUERIES * WIDTH) as u32);
        launch.with_shared(QUERIES * self.tree.stack * entry)
    }

    fn nearest(&self, queries: &Queries) -> Result<Array<u32>> {
        let (queue, tree, frame) = (self.queue, &self.tree, &self.mesh.frame);
        let nearest = queue.array(queries.len, "the nearest triangles")?;
        let [x, y, z] = frame.centre;
        distance::nearest(
            queue,
            self.launch(queries, size_of::<u64>()),
            queries.points.read(),
            queries.count,
            x,
            y,
            z,
            frame.scale,
            tree.boxes.read(),
            tree.children.read(),
            tree.corners.read(),
            tree.triangles.read(),
            int(tree.stack)?,
            nearest.write(),
        )?;
        Ok(nearest)
    }

    /// 1 for a point inside, 0 for one outside.
    fn sides(&self, queries: &Queries) -> Result<Array<i32>> {
        let (queue, tree, mesh) = (self.queue, &self.tree, self.mesh);
        let ([x, y, z], scale) = (mesh.frame.centre, mesh.frame.scale);
        let (launch, stack) = (self.launch(queries, size_of::<u32>()), int(tree.stack)?);
        let inside = queue.array(queries.len, "the sides of the points")?;
        match &mesh.winding {
            Winding::Crossings => distance::crossings(
                queue,
                launch,
                queries.points.read(),
                queries.count,
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
                    launch,
                    queries.points.read(),
                    queries.count,
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
        Ok(inside)
    }

    /// Distances to the nearest triangles, exact as their type, and the nearest points.
    fn refine(
        &self,
        queries: &Queries,
        nearest: &Array<u32>,
        inside: Option<&Array<i32>>,
    ) -> Result<(Array<f32>, Array<f32>)> {
        let queue = self.queue;
        let found = queue.array(queries.len, "the distances")?;
        let closest = queue.array(3 * queries.len, "the nearest points")?;
        distance::refine(
            queue,
            Launch::items(queries.len, 128),
            queries.points.read(),
            queries.count,
            self.corners.read(),
            self.numbers.read(),
            nearest.read(),
            inside.map_or_else(Read::default, Array::read),
            i32::from(inside.is_some()),
            found.write(),
            closest.write(),
        )?;
        Ok((found, closest))
    }
}
