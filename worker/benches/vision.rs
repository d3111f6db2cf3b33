//! Photos a second through the worker's vision code, against a bare decode-resize-infer loop on the same photos.
//!
//! `ORT_DYLIB_PATH=…/libonnxruntime.so cargo bench --workspace --bench vision`
//!
//! Both sides take turns in short rounds, so that a busy machine slows both; the ratio is that of the medians. The bare loop
//! is written straight against the crates, with nothing a worker needs: no limits, no checks, no channel, no results.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, and reads its one setting itself"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use worker::vision::{Engine, ImageLimits, Registry, Runtime, describe};

const ROUNDS: usize = 21;
const SIDE: usize = 224;

fn main() -> Result<()> {
    let library = std::env::var_os("ORT_DYLIB_PATH").context("set ORT_DYLIB_PATH to a libonnxruntime.so")?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let photos = photos(&repository.join("tests/images"))?;
    let bytes: usize = photos.iter().map(Bytes::len).sum();
    println!("{} photos, {} KB each on average", photos.len(), bytes / photos.len() / 1024);

    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let before = resident_megabytes()?;
    let runtime = Runtime::init(Some(Path::new(&library)))?;
    let registry = Registry::load(&repository.join("models"))?;
    let started = Instant::now();
    let two = tokio.block_on(Engine::start(&runtime, &registry, 2))?;
    println!(
        "2 threads: loaded and warmed in {:.0?}, {} MB resident (before: {before} MB)",
        started.elapsed(),
        resident_megabytes()?
    );
    tokio.block_on(async { tokio::try_join!(steps(&two, &photos), steps(&two, &photos)) })?;
    println!("2 threads: {} MB resident after {} analyses", resident_megabytes()?, 2 * ROUNDS * photos.len());

    let model = repository.join("models/efficientnet_lite0.fp16w.onnx");
    let mut bare = Bare::open(&runtime, &model)?;
    let one = tokio.block_on(Engine::start(&runtime, &registry, 1))?;
    compare("1 thread", photos.len(), || bare.round(&photos), || tokio.block_on(classify_all(&one, &photos)))?;

    let mut other = Bare::open(&runtime, &model)?;
    let both_bare = || {
        std::thread::scope(|scope| {
            let first = scope.spawn(|| bare.round(&photos));
            let second = other.round(&photos);
            first.join().map_err(|_| anyhow::anyhow!("the bare loop panicked"))?.and(second)
        })
    };
    let both_engine = || {
        tokio.block_on(async { tokio::try_join!(classify_all(&two, &photos), classify_all(&two, &photos)) }).map(|_| ())
    };
    compare("2 threads", 2 * photos.len(), both_bare, both_engine)?;

    let steps = tokio.block_on(steps(&one, &photos))?;
    let [preprocess, classify, attributes, defects] = steps;
    println!(
        "a whole analysis on 1 thread: {:.1} ms a photo (preprocess {preprocess:.1}, classify {classify:.1}, \
         extract_attributes {attributes:.1}, detect_defects {defects:.1})",
        steps.iter().sum::<f64>()
    );
    tokio.block_on(async { tokio::join!(one.stop(), two.stop()) });
    Ok(())
}

fn photos(folder: &Path) -> Result<Vec<Bytes>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| {
        path.extension().is_some_and(|end| ["jpg", "png", "webp", "gif"].iter().any(|known| end == *known))
    });
    paths.sort();
    paths.iter().map(|path| Ok(Bytes::from(std::fs::read(path)?))).collect()
}

fn resident_megabytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024)
}

fn compare(
    name: &str,
    photos: usize,
    mut bare: impl FnMut() -> Result<()>,
    mut worker: impl FnMut() -> Result<()>,
) -> Result<()> {
    let (mut bare_times, mut worker_times) = (Vec::new(), Vec::new());
    bare()?;
    worker()?;
    for _ in 0..ROUNDS {
        bare_times.push(timed(&mut bare)?);
        worker_times.push(timed(&mut worker)?);
    }
    let rate = |times: &mut Vec<Duration>| photos as f64 / median(times).as_secs_f64();
    let (bare, worker) = (rate(&mut bare_times), rate(&mut worker_times));
    println!("{name}: bare loop {bare:.0} photos/s, worker {worker:.0} photos/s, ratio {:.2}", worker / bare);
    Ok(())
}

fn timed(run: &mut impl FnMut() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What the worker does for decode and classify: both through the engine, one after the other.
async fn classify_all(engine: &Engine, photos: &[Bytes]) -> Result<()> {
    for photo in photos {
        let photo = engine.decode(photo.clone(), ImageLimits::default()).await?;
        std::hint::black_box(engine.classify(&photo).await?);
    }
    Ok(())
}

/// Whole analyses, one after the other; the median milliseconds of each step.
async fn steps(engine: &Engine, photos: &[Bytes]) -> Result<[f64; 4]> {
    let mut times = [(); 4].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        let mut sums = [Duration::ZERO; 4];
        for photo in photos {
            let mut clock = Instant::now();
            let mut lap = |sum: &mut Duration| {
                *sum += clock.elapsed();
                clock = Instant::now();
            };
            let [preprocessing, classifying, attributing, detecting] = &mut sums;
            let found = engine.preprocess(photo.clone(), "image/jpeg".to_owned(), ImageLimits::default()).await?;
            lap(preprocessing);
            let classification = engine.classify(&found.photo).await?;
            lap(classifying);
            let attributes = engine.extract_attributes(&found.photo, &classification).await?;
            lap(attributing);
            let defects = engine.detect_defects(&found.photo).await?;
            lap(detecting);
            std::hint::black_box(describe(None, &classification, &attributes, &defects));
        }
        for (times, sum) in times.iter_mut().zip(sums) {
            times.push(sum);
        }
    }
    Ok(times.map(|mut times| median(&mut times).as_secs_f64() * 1000.0 / photos.len() as f64))
}

/// Decode, resize, infer; nothing else.
struct Bare {
    session: Session,
    resizer: Resizer,
}

impl Bare {
    fn open(runtime: &Runtime, model: &Path) -> Result<Self> {
        let open = || -> ort::Result<Session> {
            Session::builder(runtime.environment())?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(1)?
                .commit_from_file(model)
        };
        Ok(Self { session: open()?, resizer: Resizer::new() })
    }

    fn round(&mut self, photos: &[Bytes]) -> Result<()> {
        for photo in photos {
            std::hint::black_box(self.classify(photo)?);
        }
        Ok(())
    }

    /// The index of the highest logit.
    fn classify(&mut self, photo: &[u8]) -> Result<usize> {
        let photo = image::load_from_memory(photo)?.into_rgb8();
        let (width, height) = photo.dimensions();
        let shorter = f64::from(width.min(height)) * 0.875;
        let left = (f64::from(width) - shorter) / 2.0;
        let top = (f64::from(height) - shorter) / 2.0;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .crop(left, top, shorter, shorter);
        let mut square = vec![0_u8; SIDE * SIDE * 3];
        let source = TypedImageRef::<U8x3>::from_buffer(width, height, photo.as_raw())?;
        let mut target = TypedImage::<U8x3>::from_buffer(224, 224, &mut square)?;
        self.resizer.resize_typed(&source, &mut target, &options)?;
        let mut tensor = vec![0.0_f32; 3 * SIDE * SIDE];
        for (at, pixel) in square.chunks_exact(3).enumerate() {
            for (plane, value) in pixel.iter().enumerate() {
                tensor[plane * SIDE * SIDE + at] = (f32::from(*value) - 127.0) / 128.0;
            }
        }
        let input = TensorRef::from_array_view(([1, 3, SIDE, SIDE], tensor.as_slice()))?;
        let outputs = self.session.run(ort::inputs![input])?;
        let (_, logits) = outputs["logits"].try_extract_tensor::<f32>()?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        Ok(best.map_or(0, |(index, _)| index))
    }
}
