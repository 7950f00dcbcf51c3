//! Canaries: words that must not be found in anything that travels.

/// `canary` as it might be found in a text, at any place of a longer one: plain, in hexadecimal, in
/// base64.
fn forms(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let mut forms = vec![
        bytes.to_vec(),
        data_encoding::HEXLOWER.encode(bytes).into_bytes(),
        data_encoding::HEXUPPER.encode(bytes).into_bytes(),
    ];
    for before in 0..3 {
        let shifted = [&vec![0; before][..], bytes].concat();
        for encoding in [data_encoding::BASE64_NOPAD, data_encoding::BASE64URL_NOPAD] {
            let encoded = encoding.encode(&shifted).into_bytes();
            // The digits that hold bits of the canary alone.
            let (from, to) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
            forms.push(encoded[from..to].to_vec());
        }
    }
    forms
}

/// Wants none of these in `bytes`, in any form. `place` is for the message.
pub fn assert_none(bytes: &[u8], canaries: &[&str], place: &str) {
    for canary in canaries {
        for form in forms(canary) {
            let found = bytes.windows(form.len()).any(|window| window == form);
            assert!(!found, "{canary} shows in {place}");
        }
    }
}
