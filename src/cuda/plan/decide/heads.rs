//! The launches of heads.

use super::super::constants::Content;
use super::super::variants::{self, pitch};
use super::super::{LinearHead, Operation};
use super::Decider;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Step;
use crate::graph::node::{ValueId, Work};
use crate::model::HeadKind;

impl Decider<'_> {
    /// The heads: linear layers in one launch where they read one value, and scores apart where a head has no such layer,
    /// or too many labels for a block.
    pub(super) fn heads(&mut self, pooled: Option<usize>) -> Result<()> {
        let mut groups: Vec<(ValueId, Vec<usize>)> = Vec::new(); // of heads with a linear layer
        let mut apart: Vec<(ValueId, usize)> = Vec::new();
        for (index, head) in self.model.heads().iter().enumerate() {
            let source = match pooled {
                Some(_) => self.graph.step(self.graph.head(index)).map_or(head.input(), Step::input),
                None => self.graph.head(index),
            };
            let input = self.mapped(source)?;
            let linear = head.weights().is_some();
            if !linear || (head.len() > variants::LABELS_PER_BLOCK && head.kind() != HeadKind::Values) {
                apart.push((input, index));
            }
            if !linear {
                continue;
            }
            match groups.iter_mut().find(|(other, heads)| *other == input && heads.len() < variants::HEADS) {
                Some((_, heads)) => heads.push(index),
                None => groups.push((input, vec![index])),
            }
        }
        for (input, heads) in groups {
            self.linear_heads(input, heads, pooled)?;
        }
        for (input, head) in apart {
            let name = format!("{} head", self.model.heads[head].name);
            let of_logits = self.model.heads[head].weights().is_some();
            let emit = self.plain(&name, Work::Heads { heads: vec![head], pooled }, 0);
            self.push(emit, Operation::HeadScore { head, of_logits }, input, None);
        }
        Ok(())
    }

    fn linear_heads(&mut self, input: ValueId, heads: Vec<usize>, pooled: Option<usize>) -> Result<()> {
        let model = self.model;
        let shape = self.decided.values[input].shape;
        let channels = shape.channels;
        let positions = if pooled.is_some() { 1 } else { shape.pixels() };
        let names: Vec<String> =
            heads.iter().map(|&head| format!("{} head", model.heads[head].name)).collect();
        let name = names.join(", ");
        let mut emit = self.plain(&name, Work::Heads { heads: heads.clone(), pooled }, 0);
        let mut linear = Vec::with_capacity(heads.len());
        for index in heads {
            let head = &model.heads[index];
            let labels = head.len();
            let of_block = labels.min(variants::LABELS_PER_BLOCK);
            let bytes = variants::head_shared_bytes(channels, pooled.is_some(), of_block);
            if bytes > self.gpu.shared_bytes {
                let place = format!("{} head", head.name);
                let expected =
                    format!("features and labels in {} bytes of shared memory", self.gpu.shared_bytes);
                return Err(Error::new(ErrorKind::Plan, place, expected, format!("{bytes} bytes")));
            }
            emit.flop = emit.flop.saturating_add(head.flop());
            let content = Content::HeadWeight { head: index, channels, positions };
            let weight = self.f32s(content, labels * positions * pitch(channels))?;
            let bias = self.f32s(Content::HeadBias(index), labels)?;
            let scored = labels <= variants::LABELS_PER_BLOCK || head.kind() == HeadKind::Values;
            linear.push(LinearHead { head: index, branch: head.branch(), weight, bias, scored });
        }
        let operation = Operation::Heads { heads: linear, pooled: pooled.is_some() };
        self.push(emit, operation, input, None);
        Ok(())
    }
}
