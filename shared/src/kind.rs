//! The kinds of job. A new kind starts here: add a variant, then follow the compiler.

use crate::{letter::Letter, text_enum::text_enum};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

text_enum! {
    /// What a job does; its word is stored, so it never changes.
    Kind {
        /// Runs the models over one or many product images.
        ImageAnalysis = "image_analysis",
        /// Helps with a batch of images that another worker holds.
        BatchShare = "batch_share",
        /// Runs the nodes of a pipeline.
        PipelineRun = "pipeline_run",
        /// Runs the phases of an orchestration, on the engine of pipelines.
        Orchestration = "orchestration",
        /// Lets a language model answer a conversation.
        ChatCompletion = "chat_completion",
        /// Lets a language model go on from a prompt, in one or several versions.
        TextGeneration = "text_generation",
        /// Brings one event to one receiver.
        WebhookDelivery = "webhook_delivery",
        /// Sends one mail.
        Mail = "mail",
        /// Passes through every stage and does nothing else: the queue is tested and measured with it.
        Probe = "probe",
    }
}

impl Kind {
    /// The queue whose workers run this kind.
    pub const fn queue(self) -> &'static str {
        match self {
            Self::ImageAnalysis | Self::BatchShare => "images",
            Self::PipelineRun | Self::Orchestration => "pipelines",
            Self::ChatCompletion | Self::TextGeneration => "ai",
            Self::WebhookDelivery => "webhooks",
            Self::Mail => "mails",
            Self::Probe => "probes",
        }
    }

    /// Every queue, once.
    pub fn queues() -> Vec<&'static str> {
        let mut queues: Vec<_> = Self::ALL.iter().map(|kind| kind.queue()).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }
}

/// What a job of each kind is told. Ids, not bodies: the handler loads the rest when it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Payload {
    /// Of [`Kind::ImageAnalysis`].
    ImageAnalysis(ImageAnalysis),
    /// Of [`Kind::BatchShare`].
    BatchShare(BatchShare),
    /// Of [`Kind::PipelineRun`].
    PipelineRun(PipelineRun),
    /// Of [`Kind::Orchestration`].
    Orchestration(Orchestration),
    /// Of [`Kind::ChatCompletion`].
    ChatCompletion(ChatCompletion),
    /// Of [`Kind::TextGeneration`].
    TextGeneration(TextGeneration),
    /// Of [`Kind::WebhookDelivery`].
    WebhookDelivery(WebhookDelivery),
    /// Of [`Kind::Mail`].
    Mail(Mail),
    /// Of [`Kind::Probe`].
    Probe(Probe),
}

impl Payload {
    /// The kind that this payload belongs to.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ImageAnalysis(_) => Kind::ImageAnalysis,
            Self::BatchShare(_) => Kind::BatchShare,
            Self::PipelineRun(_) => Kind::PipelineRun,
            Self::Orchestration(_) => Kind::Orchestration,
            Self::ChatCompletion(_) => Kind::ChatCompletion,
            Self::TextGeneration(_) => Kind::TextGeneration,
            Self::WebhookDelivery(_) => Kind::WebhookDelivery,
            Self::Mail(_) => Kind::Mail,
            Self::Probe(_) => Kind::Probe,
        }
    }

    /// How urgent a job with this payload is.
    pub const fn priority(&self) -> Priority {
        match self {
            Self::ImageAnalysis(ImageAnalysis { job_type: JobType::Batch, .. }) | Self::BatchShare(_) => Priority::Bulk,
            Self::PipelineRun(PipelineRun { awaited: true, .. })
            | Self::ChatCompletion(_)
            | Self::TextGeneration(_) => Priority::Interactive,
            Self::ImageAnalysis(_)
            | Self::PipelineRun(_)
            | Self::Orchestration(_)
            | Self::WebhookDelivery(_)
            | Self::Mail(_)
            | Self::Probe(_) => Priority::Default,
        }
    }
}

impl Payload {
    /// The product that the job is about, if it is about one.
    pub const fn product_id(&self) -> Option<Uuid> {
        match self {
            Self::ImageAnalysis(ImageAnalysis { product_id, .. }) => Some(*product_id),
            Self::BatchShare(_)
            | Self::PipelineRun(_)
            | Self::Orchestration(_)
            | Self::ChatCompletion(_)
            | Self::TextGeneration(_)
            | Self::WebhookDelivery(_)
            | Self::Mail(_)
            | Self::Probe(_) => None,
        }
    }
}

text_enum! {
    /// How an image analysis came about; clients see it as `job_type`.
    JobType {
        /// One uploaded image.
        Single = "single",
        /// Several images of one product.
        Batch = "batch",
        /// One image again.
        Retry = "retry",
    }
}

text_enum! {
    /// The steps of an image analysis, in order, each run for each image.
    AnalysisStep {
        /// Decodes the file, notes what it is, stores its thumbnail.
        Preprocess = "preprocess",
        /// Finds the product category.
        Classify = "classify",
        /// Reads colours and other attributes.
        ExtractAttributes = "extract_attributes",
        /// Finds visible damage.
        DetectDefects = "detect_defects",
        /// Puts the others' results into words.
        Describe = "describe",
    }
}

/// Which images to analyse; the ids are in `job_images`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageAnalysis {
    /// Why it was started.
    pub job_type: JobType,
    /// The product that the images belong to.
    pub product_id: Uuid,
}

/// Which batch to help with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchShare {
    /// The job of the batch.
    pub batch_id: Uuid,
    /// The attempt that asks; when it is over there is nothing to help with.
    pub attempt: i32,
}

/// Which pipeline to run; what is run and with which inputs is in `executions`, under the id of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineRun {
    /// The pipeline; it may be gone when the job runs.
    pub pipeline_id: Uuid,
    /// Somebody waits for the answer.
    pub awaited: bool,
}

/// Which orchestration to run; its phases and settings are in `orchestrations`, under the id of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orchestration {
    /// The project that it belongs to.
    pub project_id: Uuid,
}

text_enum! {
    /// Through which door a model was asked; usage records show it as `endpoint`.
    Endpoint {
        /// `POST /ai/chat`.
        AiChat = "/ai/chat",
        /// `POST /ai/generate`.
        AiGenerate = "/ai/generate",
        /// The socket `/ai/stream`.
        AiStream = "/ai/stream",
        /// `POST /chat`, which keeps a history.
        Chat = "/chat",
        /// A chat message on the socket `/ws`, which keeps the same history.
        ChatSocket = "/ws",
        /// A node of a pipeline.
        PipelineRun = "/pipelines/run",
        /// A phase of an orchestration.
        Orchestrate = "/orchestrate",
    }
}

text_enum! {
    /// Who says a message of a conversation.
    Speaker {
        /// Instructions.
        System = "system",
        /// The one who asks.
        User = "user",
        /// The model.
        Assistant = "assistant",
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Speaker,
    /// What.
    pub content: String,
}

/// A conversation that waits for an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// Where it came in.
    pub endpoint: Endpoint,
    /// Id of a model of the catalogue.
    pub model: String,
    /// Oldest first.
    pub messages: Vec<ChatMessage>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// 0–1.
    pub temperature: f64,
    /// Above 0, at most 1.
    pub top_p: f64,
    /// Whether the tokens are published as they come.
    pub stream: bool,
}

/// A prompt to go on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextGeneration {
    /// Id of a model of the catalogue.
    pub model: String,
    /// The beginning.
    pub prompt: String,
    /// Most tokens of each version.
    pub max_tokens: u32,
    /// 0–1.
    pub temperature: f64,
    /// Above 0, at most 1.
    pub top_p: f64,
    /// Versions wanted, 1–10.
    pub n: u8,
    /// Ends a version before the first of these.
    pub stop: Vec<String>,
}

/// Which event to bring where is in `webhook_deliveries`, under the id of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDelivery {}

/// What to send; to whom is in `mails`, under the id of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mail {
    /// What it says. Nothing once the mail is sent: it may hold a link that opens an account.
    pub letter: Option<Letter>,
}

/// A job that does nothing, in a chosen shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// How many steps are recorded, at most 100.
    #[serde(default)]
    pub steps: u16,
    /// How long each step (or, without steps, the whole job) lasts, in milliseconds, at most 60,000.
    #[serde(default)]
    pub hold_ms: u64,
}

text_enum! {
    /// Classes of jobs. As long as a job of an earlier class waits, none of a later class is claimed.
    #[derive(Default)]
    Priority {
        /// Somebody waits for the answer.
        Interactive = "interactive",
        /// Everything that says nothing else.
        #[default]
        Default = "default",
        /// Work nobody waits for.
        Bulk = "bulk",
    }
}
