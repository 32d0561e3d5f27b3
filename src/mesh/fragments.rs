//! Specks beside a surface: components of a few triangles, where decoded views contradict each other.

use super::Mesh;
use super::topology::Topology;
use crate::error::Result;

/// The mesh without components that have fewer triangles than `share` of the largest one's, and how many these were.
///
/// # Errors
/// Those of [`Topology::new`].
pub fn without_fragments(mesh: Mesh, share: f64) -> Result<(Mesh, usize)> {
    let components = Topology::new(&mesh)?.components();
    let mut sizes = vec![0u32; components.len()];
    components.iter().for_each(|&root| sizes[root as usize] += 1);
    let least = share * f64::from(sizes.iter().copied().max().unwrap_or_default());
    let dropped = sizes.iter().filter(|&&size| size > 0 && f64::from(size) < least).count();
    if dropped == 0 {
        return Ok((mesh, 0));
    }
    let kept = |&(at, _): &(usize, &[u32; 3])| f64::from(sizes[components[at] as usize]) >= least;
    let triangles = mesh.triangles.iter().enumerate().filter(kept).map(|(_, &triangle)| triangle).collect();
    Ok((compact(&mesh, triangles), dropped))
}

/// `triangles` of a mesh with the vertices that they use, in their order.
fn compact(mesh: &Mesh, mut triangles: Vec<[u32; 3]>) -> Mesh {
    let mut places = vec![u32::MAX; mesh.positions.len()];
    triangles.iter().flatten().for_each(|&vertex| places[vertex as usize] = 0);
    let used: Vec<usize> = (0..places.len()).filter(|&vertex| places[vertex] == 0).collect();
    used.iter().enumerate().for_each(|(place, &vertex)| places[vertex] = place as u32);
    triangles.iter_mut().flatten().for_each(|vertex| *vertex = places[*vertex as usize]);
    let of = |all: &[[f32; 3]]| used.iter().map(|&vertex| all[vertex]).collect();
    Mesh { positions: of(&mesh.positions), normals: mesh.normals.as_deref().map(of), triangles }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::sample_head::head;

    #[test]
    fn a_speck_goes_and_a_second_shell_stays() {
        let mut mesh = head(0, 4000);
        for scale in [0.5, 0.0] {
            let first = mesh.positions.len() as u32;
            let small = if scale > 0.0 { head(1, 2000) } else { tetrahedron() };
            mesh.positions.extend(small.positions.iter().map(|p| p.map(|x| 0.01 * x + 3.0 - scale)));
            mesh.triangles.extend(small.triangles.iter().map(|t| t.map(|v| v + first)));
        }
        mesh.normals = None;
        let all = Topology::new(&mesh).unwrap().health();
        let (kept, dropped) = without_fragments(mesh.clone(), 0.01).unwrap();
        let health = Topology::new(&kept).unwrap().health();
        assert_eq!((dropped, health.components), (1, all.components - 1));
        assert_eq!(
            (kept.positions.len(), kept.triangles.len()),
            (mesh.positions.len() - 4, mesh.triangles.len() - 4)
        );
        assert_eq!(without_fragments(mesh.clone(), 0.0).unwrap(), (mesh.clone(), 0));
        let (largest, _) = without_fragments(mesh, 1.0).unwrap();
        assert_eq!(Topology::new(&largest).unwrap().health().components, 1);
        assert_eq!(without_fragments(Mesh::default(), 0.5).unwrap().1, 0);
    }

    fn tetrahedron() -> Mesh {
        Mesh {
            positions: vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            normals: None,
            triangles: vec![[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]],
        }
    }
}
