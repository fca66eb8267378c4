//! Who carries news to whom.

use std::collections::BTreeSet;

use crate::model::Digest;
use crate::name::NodeName;

/// The nodes that `me` gossips with, out of all `nodes` of the mesh.
///
/// All nodes stand in a ring in the order of their hashed names, and each has links to those that stand 1, 4, 16, 64, …
/// places away, both ways, up to half of the ring. That makes about log₂ n + 2 links a node. Every distance is a sum of
/// few such steps (at most two of each size), so news reach all in about log₂ n steps. The relation is symmetric, every
/// node comes to it alone from the mesh document, and names that follow each other do not become neighbours by that.
///
/// A node that `nodes` does not have gets none.
pub fn ring_neighbours<'n>(nodes: impl IntoIterator<Item = &'n NodeName>, me: &NodeName) -> BTreeSet<NodeName> {
    let ring: BTreeSet<(Digest, &NodeName)> = nodes.into_iter().map(|node| (place(node), node)).collect();
    let ring: Vec<&NodeName> = ring.into_iter().map(|(_, node)| node).collect();
    let Some(at) = ring.iter().position(|node| *node == me) else { return BTreeSet::new() };
    let n = ring.len();
    let steps = std::iter::successors(Some(1_usize), |step| step.checked_mul(4)).take_while(|step| *step <= n / 2);
    steps
        .flat_map(|step| [(at + step) % n, (at + n - step) % n])
        .filter_map(|place| ring.get(place).map(|node| (*node).clone()))
        .collect()
}

fn place(node: &NodeName) -> Digest {
    Digest::of(&[b"adit ring\n", node.as_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn names(n: usize) -> Vec<NodeName> {
        (0..n).map(|i| NodeName::new(&format!("node-{i}")).unwrap()).collect()
    }

    /// For each node its neighbours, by index.
    fn graph(nodes: &[NodeName]) -> Vec<Vec<usize>> {
        let index = |name: &NodeName| nodes.iter().position(|n| n == name).unwrap();
        nodes.iter().map(|me| ring_neighbours(nodes, me).iter().map(index).collect()).collect()
    }

    /// The distance from `from` to the farthest node, without those in `gone`; none if one cannot be reached.
    fn eccentricity(graph: &[Vec<usize>], from: usize, gone: &[usize]) -> Option<usize> {
        let mut distance = vec![None; graph.len()];
        let mut queue = VecDeque::from([from]);
        distance[from] = Some(0);
        while let Some(at) = queue.pop_front() {
            for next in graph[at].iter().filter(|next| !gone.contains(next)) {
                if distance[*next].is_none() {
                    distance[*next] = distance[at].map(|d: usize| d + 1);
                    queue.push_back(*next);
                }
            }
        }
        let all = (0..graph.len()).filter(|at| !gone.contains(at)).map(|at| distance[at]);
        all.collect::<Option<Vec<_>>>().map(|all| all.into_iter().max().unwrap_or(0))
    }

    #[test]
    fn the_graph_is_sparse_symmetric_connected_and_shallow() {
        for n in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 127, 257, 500] {
            let nodes = names(n);
            let graph = graph(&nodes);
            let log = (n as f64).log2();
            for (me, neighbours) in graph.iter().enumerate() {
                assert!(!neighbours.contains(&me), "{n}");
                assert!(neighbours.iter().all(|other| graph[*other].contains(&me)), "{n}: not symmetric");
                assert!(neighbours.len() as f64 <= log + 2.0, "{n}: {} links", neighbours.len());
            }
            let far = eccentricity(&graph, 0, &[]).expect("it is connected");
            assert!(far as f64 <= log + 1.0, "{n}: {far} steps");
        }
    }

    #[test]
    fn a_mesh_that_lost_some_nodes_stays_connected() {
        let nodes = names(100);
        let graph = graph(&nodes);
        for first in 0..100 {
            let gone: Vec<usize> = (0..4).map(|k| (first + k * 37) % 100).collect();
            let from = (0..100).find(|at| !gone.contains(at)).unwrap();
            assert!(eccentricity(&graph, from, &gone).is_some(), "without {gone:?}");
        }
    }

    #[test]
    fn the_order_and_repetition_of_names_do_not_matter_and_strangers_get_none() {
        let mut nodes = names(40);
        let expected = ring_neighbours(&nodes, &nodes[7]);
        nodes.reverse();
        let doubled: Vec<_> = nodes.iter().chain(&nodes).cloned().collect();
        assert_eq!(ring_neighbours(&doubled, &NodeName::new("node-7").unwrap()), expected);
        assert!(ring_neighbours(&nodes, &NodeName::new("stranger").unwrap()).is_empty());
        assert!(ring_neighbours(&nodes[..1], &nodes[0]).is_empty());
    }
}
