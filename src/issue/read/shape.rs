//! Fields that come in several shapes: the REST API's, that of `gh --json`, a table's. A field of any
//! other shape counts as missing: no issue is refused for one.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

#[derive(Debug, Default)]
pub(super) struct Text(pub Option<String>);

/// A number, the length of a list, or the `total_count` of an object. A list of objects with counts of
/// their own, as `gh` gives reactions, has their sum.
#[derive(Debug, Default)]
pub(super) struct Count(pub Option<u64>);

/// A list of strings or of objects with a `name`; in a table, text with commas or semicolons between.
#[derive(Debug, Default)]
pub(super) struct Names(pub Vec<String>);

/// A value of any shape, reduced to what may matter of it without keeping it.
#[derive(Default)]
struct Shape {
    text: Option<String>,
    count: Option<u64>,
    names: Vec<String>,
    /// The `name` of an object.
    name: Option<String>,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        let count = u64::try_from(value).ok();
        Ok(Shape {
            count,
            ..Shape::default()
        })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape {
            count: Some(value),
            ..Shape::default()
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        let whole = value >= 0.0 && value.fract() == 0.0 && value < 1e15;
        let count = whole.then_some(value as u64);
        Ok(Shape {
            count,
            ..Shape::default()
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape {
            text: Some(text.to_owned()),
            ..Shape::default()
        })
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let (mut length, mut sum, mut names) = (0, None, Vec::new());
        while let Some(item) = items.next_element::<Shape>()? {
            length += 1;
            if let Some(count) = item.count {
                *sum.get_or_insert(0) += count;
            }
            names.extend(item.text.or(item.name));
        }
        let count = Some(sum.unwrap_or(length));
        Ok(Shape {
            count,
            names,
            ..Shape::default()
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::default();
        while let Some(key) = fields.next_key::<String>()? {
            match key.as_str() {
                "name" => shape.name = fields.next_value::<Shape>()?.text,
                "total_count" | "totalCount" | "users" => {
                    shape.count = fields.next_value::<Shape>()?.count;
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(shape)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Shape::deserialize(from)?.text))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let shape = Shape::deserialize(from)?;
        Ok(match shape.text {
            Some(text) => Self::of_text(&text),
            None => Self(shape.count),
        })
    }
}

impl Count {
    pub fn of_text(text: &str) -> Self {
        Self(text.trim().parse().ok())
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let shape = Shape::deserialize(from)?;
        Ok(match shape.text {
            Some(text) => Self::of_text(&text),
            None => Self(shape.names),
        })
    }
}

impl Names {
    pub fn of_text(text: &str) -> Self {
        if let Ok(Self(names)) = serde_json::from_str(text)
            && text.trim_start().starts_with('[')
        {
            return Self(names);
        }
        let names = text.split([',', ';']).map(str::trim);
        Self(
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}
