//! Python's pickles, protocols 0 to 5: a stack machine that builds values and calls nothing. A call in the pickle
//! becomes a [`Kind::Call`] that the reader may recognise.
//!
//! Values with parts lie in one list and refer to each other by their places, as Python's refer to each other:
//! what is filled after it was shared is seen filled by all that share it, and a circle is no danger.

mod machine;

use std::rc::Rc;

use machine::Machine;

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
    let mut machine = Machine::new(bytes);
    loop {
        if let Some(root) = machine.step()? {
            return Ok((Pickle { nodes: machine.nodes, root }, machine.rest));
        }
    }
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
