use std::collections::BTreeSet;

use super::*;

/// What a piece may take, in bytes: what a connection is handed at a time is of this order.
const LARGEST: usize = 128 * 1024;

fn pieces(sheet: &Arc<Sheet>) -> Vec<String> {
    Text::of(Arc::clone(sheet)).map(|piece| String::from_utf8(piece.unwrap()).unwrap()).collect()
}

/// All families at once, as the encoder writes them.
fn whole(sheet: &Sheet) -> String {
    let of_vips = OF_VIPS.map(|column| column.0.with(sheet.vips.iter().map(|vip| vip.metric(column)).collect()));
    let of_backends =
        OF_BACKENDS.map(|column| column.0.with(sheet.backends.iter().map(|backend| backend.metric(column)).collect()));
    let states = f::BACKEND_STATE.with(sheet.backends.iter().flat_map(Backend::states).collect());
    let mut families: Vec<MetricFamily> = sheet.plain.clone();
    families.extend(of_vips.into_iter().chain(of_backends).chain([states]));
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families).unwrap()
}

#[test]
fn no_piece_is_large_however_many_backends_there_are() {
    for (vips, backends) in [(1, 20_000), (200, 100), (20_000, 1)] {
        let pieces = pieces(&Arc::new(Sheet::of(vips, backends)));
        let lengths: Vec<usize> = pieces.iter().map(String::len).collect();
        let (largest, all) = (lengths.iter().copied().max().unwrap(), lengths.iter().sum::<usize>());
        println!("{vips} x {backends}: {} pieces, the largest of {largest} bytes, {all} in all", pieces.len());
        assert!(largest <= LARGEST, "{largest}");
        assert!(all > 80 * LARGEST, "{all} bytes are too few to tell");
        assert!(pieces.len() < all / 16_384, "{} pieces are too many for {all} bytes", pieces.len());
    }
}

#[test]
fn pieces_together_are_the_whole_text() {
    let rows = [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS];
    for (vips, backends) in rows.map(|rows| (1, rows)).into_iter().chain(rows.map(|rows| (rows, 1))) {
        let sheet = Arc::new(Sheet::of(vips, backends));
        assert!(pieces(&sheet).concat() == whole(&sheet), "{vips} VIPs of {backends} backends");
    }
}

#[test]
fn families_and_samples_come_once_and_in_order() {
    let text = pieces(&Arc::new(Sheet::of(20, 100))).concat();
    let heads = |what: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.strip_prefix(what)?.split(' ').next()?.to_owned())).collect()
    };
    let (helps, types) = (heads("# HELP "), heads("# TYPE "));
    assert_eq!(helps, types);
    assert_eq!(helps.len(), 2 + OF_VIPS.len() + OF_BACKENDS.len() + 1);
    assert!(helps.is_sorted() && helps.first().unwrap() == "lb_a" && helps.last().unwrap() == "lb_z", "{helps:?}");
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples.len(), 2 + 20 * OF_VIPS.len() + 2000 * (OF_BACKENDS.len() + 3));
    assert_eq!(samples.iter().collect::<BTreeSet<_>>().len(), samples.len(), "a sample comes twice");
    let packets: Vec<&str> = samples.into_iter().filter(|line| line.starts_with("lb_backend_packets_total{")).collect();
    assert_eq!(packets.len(), 2000);
    for (number, line) in packets.iter().enumerate() {
        assert!(line.ends_with(&format!(" {number}")), "{line} is in place {number}");
    }
}
