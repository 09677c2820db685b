//! The default stored names.

/// `HTTPServerStarted` as `http_server_started`. Digits stay with the word before them.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        if c.is_uppercase() && starts_word(&chars, i) {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// A capital starts a word after anything but a capital, and before a small letter: `HTTPServer`.
fn starts_word(chars: &[char], i: usize) -> bool {
    let Some(before) = i.checked_sub(1).map(|i| chars[i]) else {
        return false;
    };
    let next_is_small = chars.get(i + 1).is_some_and(|c| c.is_lowercase());
    before != '_' && (!before.is_uppercase() || next_is_small)
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn words_are_split_at_capitals() {
        for (ident, stored) in [
            ("PlayerMoved", "player_moved"),
            ("Moved", "moved"),
            ("HTTPServerStarted", "http_server_started"),
            ("UserID", "user_id"),
            ("IDChanged", "id_changed"),
            ("AThing", "a_thing"),
            ("Room2Entered", "room2_entered"),
            ("HTTP2Started", "http2_started"),
            ("MovedV2", "moved_v2"),
            ("Player_Moved", "player_moved"),
            ("already_snake", "already_snake"),
            ("ÄrgerÜberwunden", "ärger_überwunden"),
            ("A", "a"),
            ("", ""),
        ] {
            assert_eq!(snake_case(ident), stored, "of {ident}");
        }
    }
}
