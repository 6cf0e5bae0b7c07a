//! The model of what a recovered pool holds: where the next generation begins.
use super::{Node, Record, Shared, Worker};
use crate::history::History;
use crate::tree::{Body, Tree, owner, state_hash};
use blockdev_sim::Random;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Worker {
    /// The thread whose number is `id`, starting from what `tree` says is there.
    pub fn adopt(id: usize, shared: &Arc<Shared>, tree: &Tree, random: Random) -> Self {
        let promises_fsync = !shared.plan.properties.contains(&("sync", "disabled".to_owned()));
        let mut worker = Self {
            id,
            shared: shared.clone(),
            random,
            nodes: Vec::new(),
            names_sum: tree.names[id],
            orphans: Vec::new(),
            record: Record { names: History::durable(tree.names[id]), ..Record::default() },
            promises_fsync,
            is_always_sync: shared.plan.properties.contains(&("sync", "always".to_owned())),
        };
        let mut known = BTreeMap::new();
        worker.copy(tree, 0, None, true, &mut known);
        worker
    }

    /// Copies a node and what is below it, as far as it is this thread's.
    fn copy(
        &mut self,
        tree: &Tree,
        from: usize,
        link: Option<(usize, Vec<u8>)>,
        is_shared: bool,
        known: &mut BTreeMap<usize, usize>,
    ) -> usize {
        if let Some(at) = known.get(&from) {
            if let (Some(node), Some(link)) = (&mut self.nodes[*at], link) {
                node.links.push(link);
            }
            return *at;
        }
        let source = &tree.nodes[from];
        let at = self.nodes.len();
        known.insert(from, at);
        if !is_shared {
            let mut history = History::durable(state_hash(&source.body, &source.meta));
            if let Body::File(content) = &source.body {
                history.contents.insert(0, content.clone());
            }
            self.record.nodes.insert(source.key, history);
        }
        let body = match &source.body {
            Body::Dir(_) => Body::Dir(BTreeMap::new()),
            other => other.clone(),
        };
        self.nodes.push(Some(Node {
            key: source.key,
            body,
            meta: source.meta.clone(),
            links: link.into_iter().collect(),
            last_names: 0,
            is_shared,
        }));
        if let Body::Dir(entries) = &source.body {
            for (name, child) in entries {
                let of = owner(name);
                if of == Some(self.id) || of.is_none() {
                    let child = self.copy(tree, *child, Some((at, name.clone())), of.is_none(), known);
                    if let Some(Node { body: Body::Dir(entries), .. }) = &mut self.nodes[at] {
                        entries.insert(name.clone(), child);
                    }
                }
            }
        }
        at
    }
}
