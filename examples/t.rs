use awsnet::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let threads: usize = a[2].parse().unwrap();
    let batch: usize = a[3].parse().unwrap();
    let t = std::time::Instant::now();
    let m = Model::load(&a[1]).unwrap();
    println!("load {:?}", t.elapsed());
    let p = Plan::build(m, &PlanOptions { batch, ..Default::default() }).unwrap();
    println!("plan {:?}", t.elapsed());
    if a.len() > 4 {
        println!("{p}");
    }
    let flop = p.flop();
    let e = Engine::new(p, &EngineOptions { threads }).unwrap();
    let mut s = e.session().unwrap();
    let n = e.plan().input().shape.len() * batch;
    let img: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    s.run(&img).unwrap();
    let mut v = vec![];
    for _ in 0..(200 / batch).max(20) {
        let t = std::time::Instant::now();
        s.run(&img).unwrap();
        v.push(t.elapsed().as_secs_f64());
    }
    v.sort_by(|a, b| a.total_cmp(b));
    println!(
        "median {:.3} ms min {:.3} -> {:.1} GFLOP/s",
        v[v.len() / 2] * 1e3,
        v[0] * 1e3,
        flop as f64 * batch as f64 / 1e9 / v[v.len() / 2]
    );
}
