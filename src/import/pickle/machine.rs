//! The stack machine that a pickle is a program of. Calls in it are recognised, never made.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Kind, Node, Value};

pub(super) struct Machine<'a> {
    pub rest: &'a [u8],
    pub nodes: Vec<Node>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Parts that calls may still take over from their arguments: each takes what was written for it, so that a
    /// file of many calls of one long argument is none of Python's.
    copies: usize,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copies: bytes.len(),
        }
    }

    /// Does one instruction; returns the value at the end.
    pub fn step(&mut self) -> Result<Option<Value>, String> {
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
            other => self.collect(other)?,
        }
        Ok(None)
    }

    /// Makes a collection, or adds to one.
    fn collect(&mut self, code: u8) -> Result<(), String> {
        let kind = match code {
            b')' | 0x85..=0x87 | b't' => Kind::Tuple,
            b']' | b'l' => Kind::List,
            b'}' | b'd' => Kind::Dict,
            0x8f | 0x91 => Kind::Set,
            b'a' => {
                let items = self.pop_many(1)?;
                return self.extend(items);
            }
            b's' => {
                let items = self.pop_many(2)?;
                return self.extend(items);
            }
            b'e' | b'u' | 0x90 => {
                let items = self.pop_to_mark()?;
                return self.extend(items);
            }
            other => {
                return Err(format!("instruction {other:#04x}, which torch.save does not use"));
            }
        };
        let items = match code {
            b')' | b']' | b'}' | 0x8f => Vec::new(),
            0x85..=0x87 => self.pop_many(usize::from(code - 0x84))?,
            _ => self.pop_to_mark()?,
        };
        self.make(kind, items);
        Ok(())
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
