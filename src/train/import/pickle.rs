//! Python's pickles, as far as `torch.save` uses them: a stack machine that builds values and calls
//! nothing. A call in the pickle becomes a [`Kind::Call`] that the reader may recognise.

use std::collections::HashMap;
use std::rc::Rc;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None, a truth value, a float or bytes: nothing that names or shapes an array.
    Other,
    /// An integer that fits.
    Int(i64),
    /// A text.
    Text(String),
    /// `module.name` of a class or function.
    Global(String),
    /// A value with parts.
    Node(Node),
}

/// A value with parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its parts: items; keys and values in turn; a call's arguments.
    pub items: Vec<Rc<Value>>,
    depth: usize,
}

/// What a value with parts is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A tuple.
    Tuple,
    /// A list.
    List,
    /// A dictionary, ordered or not.
    Dict,
    /// A call of `module.name`.
    Call(String),
    /// A reference to something outside the pickle; its one part says to what.
    Persistent,
}

impl Value {
    /// The value's parts, if it is of this kind.
    pub fn parts(&self, kind: &Kind) -> Option<&[Rc<Value>]> {
        match self {
            Self::Node(node) if node.kind == *kind => Some(&node.items),
            _ => None,
        }
    }

    /// The entries of a dictionary.
    pub fn entries(&self) -> Option<impl Iterator<Item = (&Value, &Value)>> {
        let pairs = self.parts(&Kind::Dict)?.chunks_exact(2);
        Some(pairs.map(|pair| (pair[0].as_ref(), pair[1].as_ref())))
    }

    /// The value as a count or an offset.
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The value as a text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Node(node) => node.depth,
            _ => 0,
        }
    }
}

/// Values may lie in each other this deep: dropping them recurses.
const DEEPEST: usize = 200;

/// Reads one pickle from the start of `bytes`; returns its value and what follows it. The error says
/// what is wrong, for a message that names the file.
pub fn read(bytes: &[u8]) -> Result<(Rc<Value>, &[u8]), String> {
    let mut machine =
        Machine { rest: bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        if let Some(value) = machine.step()? {
            return Ok((value, machine.rest));
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Rc<Value>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Rc<Value>>,
}

impl<'a> Machine<'a> {
    /// Does one instruction; returns the value at the end.
    fn step(&mut self) -> Result<Option<Rc<Value>>, String> {
        match self.take(1)?[0] {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.take(1)?), // protocol
            0x95 => drop(self.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            b'K' => {
                let [number] = self.array()?;
                self.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            0x8a => self.long()?,
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.text(length)?;
            }
            0x8c | b'U' => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.take(length)?;
                self.push(Value::Other);
            }
            b'C' => {
                let [length] = self.array()?;
                self.take(length.into())?;
                self.push(Value::Other);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (module.text(), name.text()) else {
                    return Err("a global without a name".into());
                };
                self.push(Value::Global(format!("{module}.{name}")));
            }
            b'q' => {
                let [place] = self.array()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [place] = self.array()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }
            b')' => self.node(Kind::Tuple, Vec::new())?,
            b']' => self.node(Kind::List, Vec::new())?,
            b'}' => self.node(Kind::Dict, Vec::new())?,
            count @ 0x85..=0x87 => {
                let items = self.pop_many(usize::from(count - 0x84))?;
                self.node(Kind::Tuple, items)?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.node(Kind::Tuple, items)?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.extend(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.extend(items)?;
            }
            b'e' | b'u' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b'R' | 0x81 => self.call()?,
            b'b' => drop(self.pop()?), // a state: attributes, which hold no array of ours
            b'Q' => {
                let items = self.pop_many(1)?;
                self.node(Kind::Persistent, items)?;
            }
            other => {
                return Err(format!("instruction {other:#04x}, which torch.save does not use"));
            }
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or("an end amid an instruction")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "an end amid an instruction".into())
    }

    fn line(&mut self) -> Result<String, String> {
        let length =
            self.rest.iter().position(|&byte| byte == b'\n').ok_or("a line without end")?;
        let line = self.take(length)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    /// An integer of any length; one that fits no index becomes [`Value::Other`].
    fn long(&mut self) -> Result<(), String> {
        let [length] = self.array()?;
        let bytes = self.take(length.into())?;
        let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        if bytes.len() > 8 {
            self.push(Value::Other);
            return Ok(());
        }
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Rc::new(value));
    }

    fn pop(&mut self) -> Result<Rc<Value>, String> {
        self.stack.pop().ok_or_else(|| "an empty stack".into())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Rc<Value>>, String> {
        let start = self.stack.len().checked_sub(count).ok_or("an empty stack")?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Rc<Value>>, String> {
        let mark = self.marks.pop().ok_or("no mark")?;
        if mark > self.stack.len() {
            return Err("a mark above the stack".into());
        }
        Ok(self.stack.split_off(mark))
    }

    fn node(&mut self, kind: Kind, items: Vec<Rc<Value>>) -> Result<(), String> {
        let depth = depth_over(&items)?;
        self.push(Value::Node(Node { kind, items, depth }));
        Ok(())
    }

    /// Adds parts to the list or dictionary on top.
    fn extend(&mut self, items: Vec<Rc<Value>>) -> Result<(), String> {
        let depth = depth_over(&items)?;
        let top = self.stack.last_mut().ok_or("an empty stack")?;
        let Value::Node(node) = Rc::make_mut(top) else {
            return Err("items for what has none".into());
        };
        node.items.extend(items);
        node.depth = node.depth.max(depth);
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(name) = callee.as_ref() else {
            return Err("a call of what is no function".into());
        };
        let items = arguments.parts(&Kind::Tuple).ok_or("a call without arguments")?.to_vec();
        // An ordered dictionary is made empty and then filled, as a dictionary is.
        let kind = match name.as_str() {
            "collections.OrderedDict" if items.is_empty() => Kind::Dict,
            _ => Kind::Call(name.clone()),
        };
        self.node(kind, items)
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let top = self.stack.last().ok_or("an empty stack")?.clone();
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let value = self.memo.get(&place).ok_or("a memo that is not there")?.clone();
        self.stack.push(value);
        Ok(())
    }
}

fn depth_over(items: &[Rc<Value>]) -> Result<usize, String> {
    let depth = 1 + items.iter().map(|item| item.depth()).max().unwrap_or(0);
    if depth > DEEPEST { Err("values nested too deep".into()) } else { Ok(depth) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_instructions_are_a_value_or_an_error(
            codes in prop::collection::vec(prop::sample::select(&b"(}])tauesNRbQ0\x85\x87K\x01q\x02h\x02."[..]), 0..300),
        ) {
            let _ = read(&codes);
        }
    }

    #[test]
    fn a_dictionary_is_read_and_what_follows_is_left() {
        // {'a': (1, -2)} in protocol 2
        let (value, rest) =
            read(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xff\x86q\x02s.rest")
                .unwrap();
        assert_eq!(rest, b"rest");
        let (key, pair) = value.entries().unwrap().next().unwrap();
        assert_eq!(key.text(), Some("a"));
        let numbers: Vec<_> =
            pair.parts(&Kind::Tuple).unwrap().iter().map(|v| v.as_ref().clone()).collect();
        assert_eq!(numbers, [Value::Int(1), Value::Int(-2)]);
    }

    #[test]
    fn nesting_beyond_reason_is_refused() {
        let mut bytes = vec![b']'; 100_000];
        bytes.extend(vec![b'a'; 99_999]);
        bytes.push(b'.');
        assert!(read(&bytes).unwrap_err().contains("too deep"));
    }
}
