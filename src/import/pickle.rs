//! Python's pickles, protocols 0 to 5: a stack machine that builds values and calls nothing. A call in the pickle
//! becomes a [`Kind::Call`] that the reader may recognise.
//!
//! Values with parts lie in one list and refer to each other by their places, as Python's refer to each other:
//! what is filled after it was shared is seen filled by all that share it, and a circle is no danger.

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
    Text(Rc<str>),
    /// `module.name` of a class or function.
    Global(Rc<str>),
    /// A value with parts: its place in [`Pickle::nodes`].
    Node(usize),
}

/// A value with parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its parts: items; keys and values in turn; a call's arguments.
    pub items: Vec<Value>,
    /// What an object was given to restore itself from: its attributes.
    pub state: Option<Value>,
}

/// What a value with parts is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A tuple.
    Tuple,
    /// A list.
    List,
    /// A set, frozen or not.
    Set,
    /// A dictionary, ordered or not.
    Dict,
    /// A call of `module.name`: mostly an object of that class.
    Call(Rc<str>),
    /// A reference to something outside the pickle; its one part says to what.
    Persistent,
}

/// A pickle that has been read.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    root: Value,
}

impl Pickle {
    /// The value that the pickle is of.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// All values with parts.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A value's parts, kind and state, where it has parts.
    pub fn node(&self, value: &Value) -> Option<&Node> {
        match value {
            Value::Node(place) => self.nodes.get(*place),
            _ => None,
        }
    }

    /// A value's parts, if it is of this kind.
    pub fn parts(&self, value: &Value, kind: &Kind) -> Option<&[Value]> {
        self.node(value).filter(|node| node.kind == *kind).map(|node| &node.items[..])
    }

    /// The entries of a dictionary.
    pub fn entries(&self, value: &Value) -> Option<impl Iterator<Item = (&Value, &Value)>> {
        let pairs = self.parts(value, &Kind::Dict)?.chunks_exact(2);
        Some(pairs.map(|pair| (&pair[0], &pair[1])))
    }

    /// The entry of a dictionary under a text.
    pub fn entry(&self, value: &Value, wanted: &str) -> Option<&Value> {
        // The last one: a dictionary has one value for a key.
        self.entries(value)?.filter(|(key, _)| key.text() == Some(wanted)).last().map(|(_, v)| v)
    }
}

impl Value {
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
}

/// Reads one pickle from the start of `bytes`; returns its value and what follows it. The error says
/// what is wrong, for a message that names the file.
pub fn read(bytes: &[u8]) -> Result<(Pickle, &[u8]), String> {
    let mut machine = Machine {
        rest: bytes,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copies: bytes.len(),
    };
    loop {
        if let Some(root) = machine.step()? {
            return Ok((Pickle { nodes: machine.nodes, root }, machine.rest));
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Parts that calls may still take over from their arguments: each takes what was written for it, so that a
    /// file of many calls of one long argument is none of Python's.
    copies: usize,
}

impl<'a> Machine<'a> {
    /// Does one instruction; returns the value at the end.
    fn step(&mut self) -> Result<Option<Value>, String> {
        match self.take(1)?[0] {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.take(1)?), // protocol
            0x95 => drop(self.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.stack.last().ok_or("an empty stack")?.clone();
                self.stack.push(top);
            }
            code @ (b'N' | 0x88 | 0x89 | b'G' | b'F' | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'I'
            | b'L') => {
                self.number(code)?;
            }
            code @ (b'X' | b'T' | 0x8c | b'U' | 0x8d | b'V' | b'S' | b'B' | b'C' | 0x8e | 0x96) => {
                self.text(code)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(format!("{module}.{name}").into()));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (module.text(), name.text()) else {
                    return Err("a global without a name".into());
                };
                self.stack.push(Value::Global(format!("{module}.{name}").into()));
            }
            code @ (b'q' | b'r' | b'p' | 0x94 | b'h' | b'j' | b'g') => self.memo(code)?,
            b')' => self.make(Kind::Tuple, Vec::new()),
            b']' => self.make(Kind::List, Vec::new()),
            b'}' => self.make(Kind::Dict, Vec::new()),
            0x8f => self.make(Kind::Set, Vec::new()),
            count @ 0x85..=0x87 => {
                let items = self.pop_many(usize::from(count - 0x84))?;
                self.make(Kind::Tuple, items);
            }
            code @ (b't' | b'l' | b'd' | 0x91) => {
                let items = self.pop_to_mark()?;
                let kind = match code {
                    b't' => Kind::Tuple,
                    b'l' => Kind::List,
                    b'd' => Kind::Dict,
                    _ => Kind::Set,
                };
                self.make(kind, items);
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.extend(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.extend(items)?;
            }
            b'e' | b'u' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(&callee, &arguments)?;
            }
            0x92 => {
                let (_, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(&callee, &arguments)?;
            }
            b'b' => self.build()?,
            b'Q' => {
                let items = self.pop_many(1)?;
                self.make(Kind::Persistent, items);
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

    /// Numbers, truth values and None.
    fn number(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b'G' => {
                self.take(8)?;
                Value::Other
            }
            b'F' => {
                self.line()?;
                Value::Other
            }
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.array::<1>()?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a => {
                let [length] = self.array()?;
                long(self.take(length.into())?)
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                long(self.take(length)?)
            }
            b'I' | b'L' => {
                let line = self.line()?;
                line.trim_end_matches('L').parse().map_or(Value::Other, Value::Int)
            }
            _ => Value::Other,
        };
        self.stack.push(value);
        Ok(())
    }

    /// Texts, of Python 2 too, and bytes.
    fn text(&mut self, code: u8) -> Result<(), String> {
        let length = match code {
            b'V' | b'S' => {
                let line = self.line()?;
                let text = line.trim_matches(['\'', '"']);
                self.stack.push(Value::Text(text.into()));
                return Ok(());
            }
            0x8c | b'U' | b'C' => self.array::<1>()?[0].into(),
            0x8d | 0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.array()?);
                usize::try_from(length).map_err(|_| "a text longer than memory")?
            }
            _ => u32::from_le_bytes(self.array()?) as usize,
        };
        let bytes = self.take(length)?;
        let is_text = matches!(code, b'X' | b'T' | 0x8c | b'U' | 0x8d);
        self.stack.push(if is_text {
            Value::Text(String::from_utf8_lossy(bytes).into())
        } else {
            Value::Other
        });
        Ok(())
    }

    /// What is remembered, and recalled.
    fn memo(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'q' | b'h' => self.array::<1>()?[0].into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            0x94 => self.memo.len() as u32,
            _ => self.line()?.parse().map_err(|_| "a memo without a number")?,
        };
        if matches!(code, b'h' | b'j' | b'g') {
            let value = self.memo.get(&place).ok_or("a memo that is not there")?.clone();
            self.stack.push(value);
        } else {
            let top = self.stack.last().ok_or("an empty stack")?.clone();
            self.memo.insert(place, top);
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| "an empty stack".into())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let start = self.stack.len().checked_sub(count).ok_or("an empty stack")?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or("no mark")?;
        if mark > self.stack.len() {
            return Err("a mark above the stack".into());
        }
        Ok(self.stack.split_off(mark))
    }

    fn make(&mut self, kind: Kind, items: Vec<Value>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(Node { kind, items, state: None });
    }

    fn top(&mut self) -> Result<&mut Node, String> {
        match self.stack.last() {
            Some(Value::Node(place)) => {
                self.nodes.get_mut(*place).ok_or_else(|| "a place that is not there".into())
            }
            _ => Err("items for what has none".into()),
        }
    }

    /// Adds parts to the list, set or dictionary on top.
    fn extend(&mut self, items: Vec<Value>) -> Result<(), String> {
        self.top()?.items.extend(items);
        Ok(())
    }

    fn call(&mut self, callee: &Value, arguments: &Value) -> Result<(), String> {
        let name = match callee {
            Value::Global(name) => Rc::clone(name),
            // A class that is made by a call is no array's.
            _ => "something that is no global".into(),
        };
        let place = match arguments {
            Value::Node(place) => *place,
            _ => return Err("a call without arguments".into()),
        };
        let arguments = self.nodes.get(place).filter(|node| node.kind == Kind::Tuple);
        let items = arguments.ok_or("a call without arguments")?.items.clone();
        self.spend(items.len())?;
        if &*name == "collections.OrderedDict" {
            // Made empty and then filled, as a dictionary is, or, by Python 2, from a list of its pairs.
            let pairs = self.pairs(&items)?;
            self.spend(pairs.len())?;
            self.make(Kind::Dict, pairs);
        } else if let ("builtins.set" | "builtins.frozenset" | "__builtin__.set", [list]) =
            (&*name, &items[..])
        {
            let items = match list {
                Value::Node(place) => self.nodes[*place].items.clone(),
                _ => Vec::new(),
            };
            self.spend(items.len())?;
            self.make(Kind::Set, items);
        } else {
            self.make(Kind::Call(name), items);
        }
        Ok(())
    }

    fn spend(&mut self, copies: usize) -> Result<(), String> {
        let left = self.copies.checked_sub(copies);
        self.copies = left.ok_or("calls that share their arguments beyond reason")?;
        Ok(())
    }

    /// Keys and values in turn, of the list of pairs that is the one argument; none of no argument.
    fn pairs(&self, arguments: &[Value]) -> Result<Vec<Value>, String> {
        let refused = || "an ordered dictionary of other than pairs".to_owned();
        let list = match arguments {
            [] => return Ok(Vec::new()),
            [Value::Node(place)] => &self.nodes[*place],
            _ => return Err(refused()),
        };
        if list.kind == Kind::Dict {
            return Ok(list.items.clone());
        }
        let mut all = Vec::with_capacity(2 * list.items.len());
        for pair in &list.items {
            let Value::Node(place) = pair else { return Err(refused()) };
            let [key, value] = &self.nodes[*place].items[..] else { return Err(refused()) };
            all.extend([key.clone(), value.clone()]);
        }
        Ok(all)
    }

    /// Gives an object its state. Of a dictionary it is attributes, which hold no array.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        if let Ok(node) = self.top()
            && matches!(node.kind, Kind::Call(_))
        {
            node.state = Some(state);
        }
        Ok(())
    }
}

/// An integer of any length; one that fits no index becomes [`Value::Other`].
fn long(bytes: &[u8]) -> Value {
    let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    if bytes.len() > 8 {
        return Value::Other;
    }
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
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
            codes in prop::collection::vec(
                prop::sample::select(&b"(}])tauesNRbQ0\x85\x87\x8f\x90\x91\x92\x93\x94K\x01q\x02h\x02cx\ny\n."[..]),
                0..300,
            ),
        ) {
            let _ = read(&codes);
        }
    }

    #[test]
    fn a_dictionary_is_read_and_what_follows_is_left() {
        // {'a': (1, -2)} in protocol 2
        let (pickle, rest) =
            read(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xff\x86q\x02s.rest")
                .unwrap();
        assert_eq!(rest, b"rest");
        let pair = pickle.entry(pickle.root(), "a").unwrap();
        assert_eq!(pickle.parts(pair, &Kind::Tuple).unwrap(), [Value::Int(1), Value::Int(-2)]);
    }

    #[test]
    fn what_is_filled_after_it_was_shared_is_seen_filled() {
        // {'a': d, 'b': d}, d = {'k': 7} filled last, by way of the memo.
        let (pickle, _) = read(b"}(U\x01a}q\x01U\x01bh\x01uh\x01U\x01kK\x07s0.").unwrap();
        for name in ["a", "b"] {
            let shared = pickle.entry(pickle.root(), name).unwrap();
            assert_eq!(pickle.entry(shared, "k"), Some(&Value::Int(7)), "{name}");
        }
    }

    #[test]
    fn many_calls_of_one_long_argument_are_refused() {
        // x.y(*list) again and again, the tuple of a thousand parts from the memo.
        let mut bytes = b"cx\ny\nq\x00(".to_vec();
        bytes.extend([b'N'; 1000]);
        bytes.extend(b"tq\x01");
        (0..1000).for_each(|_| bytes.extend(b"h\x00h\x01R"));
        bytes.push(b'.');
        assert!(read(&bytes).unwrap_err().contains("beyond reason"));
    }

    #[test]
    fn values_that_lie_deep_in_each_other_or_in_themselves_are_no_danger() {
        let mut bytes = vec![b']'; 100_000];
        bytes.extend(vec![b'a'; 99_999]);
        bytes.push(b'.');
        assert_eq!(read(&bytes).unwrap().0.nodes().len(), 100_000);
        let (circle, _) = read(b"]q\x00h\x00a.").unwrap();
        assert_eq!(circle.parts(circle.root(), &Kind::List), Some(&[Value::Node(0)][..]));
    }

    #[test]
    fn every_protocol_of_python_gives_the_same_value() {
        // pickle.dumps({'a': [1, 300, 70000, {2}]}, protocol)
        let all: [&[u8]; 3] = [
            b"(dp0\nVa\np1\n(lp2\nI1\naI300\naI70000\nac__builtin__\nset\np3\n((lp4\nI2\natp5\nRp6\nas.",
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(K\x01M,\x01Jp\x11\x01\x00c__builtin__\nset\nq\x03]q\x04K\x02a\x85q\x05Rq\x06es.",
            b"\x80\x04\x95\x18\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94]\x94(K\x01M,\x01Jp\x11\x01\x00\x8f\x94(K\x02\x90es.",
        ];
        for bytes in all {
            let (pickle, rest) = read(bytes).unwrap();
            assert!(rest.is_empty());
            let list = pickle.entry(pickle.root(), "a").unwrap();
            let parts = pickle.parts(list, &Kind::List).unwrap();
            assert_eq!(parts[..3], [1, 300, 70000].map(Value::Int));
            assert_eq!(pickle.parts(&parts[3], &Kind::Set), Some(&[Value::Int(2)][..]));
        }
    }
}
