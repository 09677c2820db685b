//! Which node runs which shard: every node computes the same from the same data.

use std::{cmp::Reverse, collections::BTreeMap};

use es_core::{Fleet, Shard, Standing};
use uuid::Uuid;

/// The node for each shard that is meant to run, if any node can run it.
///
/// A shard stays where it is, unless its node has at least two more than another one that could take it:
/// so nodes which can run the same differ by at most one, and no more moves than that takes.
pub(crate) fn assign(fleet: &Fleet) -> BTreeMap<Shard, Uuid> {
    let mut nodes: Vec<_> = fleet.nodes.iter().map(|(node, _)| node).collect();
    nodes.sort_unstable_by_key(|node| node.id);
    let mut tasks = Vec::new();
    let mut loads = vec![0; nodes.len()];
    for row in fleet
        .standings
        .iter()
        .filter(|row| row.lifecycle.is_running())
    {
        let able =
            (0..nodes.len()).filter(|index| nodes[*index].runs.contains(&row.shard.projection));
        let able: Vec<_> = able.collect();
        let owner = able
            .iter()
            .copied()
            .find(|index| Some(nodes[*index].id) == row.owner);
        if let Some(owner) = owner {
            loads[owner] += 1;
        }
        tasks.push((Task { row, able, owner }, owner));
    }
    for (task, place) in tasks.iter_mut().filter(|(_, place)| place.is_none()) {
        *place = task
            .able
            .iter()
            .copied()
            .min_by_key(|node| (loads[*node], *node));
        if let Some(node) = *place {
            loads[node] += 1;
        }
    }
    while let Some((index, from, to)) = next_move(&tasks, &loads) {
        tasks[index].1 = Some(to);
        loads[from] -= 1;
        loads[to] += 1;
    }
    tasks
        .into_iter()
        .filter_map(|(task, place)| Some((task.row.shard.clone(), nodes[place?].id)))
        .collect()
}

/// A shard that is meant to run. Nodes are meant by their place in the order of their ids.
struct Task<'a> {
    row: &'a Standing,
    able: Vec<usize>,
    owner: Option<usize>,
}

/// From where there is most to where there is least; rather a shard that is not running there yet.
fn next_move(
    tasks: &[(Task<'_>, Option<usize>)],
    loads: &[usize],
) -> Option<(usize, usize, usize)> {
    let moves = tasks
        .iter()
        .enumerate()
        .filter_map(|(index, (task, place))| {
            let from = (*place)?;
            let to = task
                .able
                .iter()
                .copied()
                .min_by_key(|node| (loads[*node], *node))?;
            let gain = loads[from].saturating_sub(loads[to]);
            (gain >= 2).then_some(((Reverse(gain), task.owner == Some(from), from, index), to))
        });
    let ((_, _, from, index), to) = moves.min()?;
    Some((index, from, to))
}

#[cfg(test)]
mod tests;
