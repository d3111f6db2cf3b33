//! Diesel's picture of the tables in `migrations/`; a test compares the two.

#![expect(missing_docs, reason = "the columns are explained in the migrations that make them")]

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! { organizations (id) {
    id -> Uuid, name -> Text, slug -> Text, subscription_tier -> Text, settings -> Jsonb,
    created_at -> Timestamptz, updated_at -> Timestamptz, monthly_token_budget -> Nullable<Int8>,
    monthly_cost_budget_nanos -> Nullable<Int8>, custom_limits -> Nullable<Jsonb>,
} }
table! { users (id) {
    id -> Uuid, email -> Text, username -> Text, full_name -> Text, password_hash -> Text, is_active -> Bool,
    mfa_enabled -> Bool, organization_id -> Uuid, preferences -> Jsonb, last_login_at -> Nullable<Timestamptz>,
    created_at -> Timestamptz, updated_at -> Timestamptz, mfa_secret -> Nullable<Text>,
    mfa_last_step -> Nullable<Int8>, unsubscribe_token -> Uuid,
} }
table! { memberships (organization_id, user_id) {
    organization_id -> Uuid, user_id -> Uuid, role -> Text, joined_at -> Timestamptz,
} }
table! { login_sessions (id) {
    id -> Uuid, user_id -> Uuid, ip -> Nullable<Text>, user_agent -> Nullable<Text>, created_at -> Timestamptz,
    last_used_at -> Timestamptz, ended_at -> Nullable<Timestamptz>,
} }
table! { refresh_tokens (hash) {
    hash -> Bytea, session_id -> Uuid, expires_at -> Timestamptz, spent_at -> Nullable<Timestamptz>,
    created_at -> Timestamptz,
} }
table! { jobs (id) {
    id -> Uuid, kind -> Text, queue -> Text, status -> Text, priority -> Text, organization_id -> Uuid,
    weight -> Int2, user_id -> Uuid, payload -> Jsonb, result -> Nullable<Jsonb>, error_code -> Nullable<Text>,
    error_message -> Nullable<Text>, errors -> Jsonb, attempt -> Int4, forgiven -> Int4, max_attempts -> Int4,
    crashes -> Int4, run_at -> Timestamptz, worker -> Nullable<Text>, heartbeat_at -> Nullable<Timestamptz>,
    cancel_requested -> Bool, last_seq -> Int4, items_total -> Int4, items_done -> Int4, items_failed -> Int4,
    trace_context -> Nullable<Text>, created_at -> Timestamptz, updated_at -> Timestamptz,
    started_at -> Nullable<Timestamptz>, finished_at -> Nullable<Timestamptz>,
} }
table! { job_steps (job_id, item, name) {
    job_id -> Uuid, item -> Uuid, name -> Text, position -> Int2, status -> Text, attempt -> Int4,
    started_at -> Nullable<Timestamptz>, completed_at -> Nullable<Timestamptz>, duration_ms -> Nullable<Int8>,
    error_message -> Nullable<Text>, result -> Jsonb,
} }
table! { job_events (job_id, seq) {
    job_id -> Uuid, seq -> Int4, body -> Jsonb, created_at -> Timestamptz,
} }
table! { products (id) {
    id -> Uuid, user_id -> Uuid, title -> Text, description -> Nullable<Text>, category -> Nullable<Text>,
    subcategory -> Nullable<Text>, ai_description -> Nullable<Text>, status -> Text, metadata -> Jsonb,
    created_at -> Timestamptz, updated_at -> Timestamptz,
} }
table! { product_images (id) {
    id -> Uuid, product_id -> Uuid, user_id -> Uuid, s3_key -> Text, thumbnail_key -> Nullable<Text>,
    original_filename -> Text, content_type -> Text, file_size_bytes -> Int8, width -> Nullable<Int4>,
    height -> Nullable<Int4>, is_primary -> Bool, upload_status -> Text, job_id -> Nullable<Uuid>,
    created_at -> Timestamptz,
} }
table! { job_images (job_id, image_id) {
    job_id -> Uuid, image_id -> Uuid, position -> Int4, status -> Text, error_message -> Nullable<Text>,
    taken_by -> Nullable<Uuid>, taken_attempt -> Nullable<Int4>,
} }
table! { analyses (id) {
    id -> Uuid, product_image_id -> Uuid, job_id -> Nullable<Uuid>, model_version -> Text,
    classification_label -> Nullable<Text>, classification_confidence -> Nullable<Float8>,
    classification_scores -> Jsonb, description_text -> Nullable<Text>, description_model -> Nullable<Text>,
    processing_time_ms -> Nullable<Int8>, status -> Text, error_message -> Nullable<Text>,
    created_at -> Timestamptz, updated_at -> Timestamptz,
} }
table! { analysis_attributes (id) {
    id -> Uuid, analysis_id -> Uuid, attribute_name -> Text, attribute_value -> Text, confidence -> Float8,
} }
table! { analysis_defects (id) {
    id -> Uuid, analysis_id -> Uuid, defect_type -> Text, severity -> Text, confidence -> Float8,
    x -> Float8, y -> Float8, width -> Float8, height -> Float8, description -> Text,
} }
table! { pipelines (id) {
    id -> Uuid, organization_id -> Uuid, created_by -> Uuid, name -> Text, description -> Text, status -> Text,
    metadata -> Jsonb, nodes -> Jsonb, connections -> Jsonb, node_count -> Int4, version -> Int4,
    last_executed -> Nullable<Timestamptz>, created_at -> Timestamptz, updated_at -> Timestamptz,
} }
table! { pipeline_schedules (id) {
    id -> Uuid, pipeline_id -> Uuid, organization_id -> Uuid, created_by -> Uuid, cron -> Text, timezone -> Text,
    inputs -> Jsonb, enabled -> Bool, missed -> Text, next_run_at -> Nullable<Timestamptz>,
    last_run_at -> Nullable<Timestamptz>, created_at -> Timestamptz, updated_at -> Timestamptz,
} }
table! { executions (id) {
    id -> Uuid, organization_id -> Uuid, user_id -> Uuid, pipeline_id -> Uuid, pipeline_name -> Text, nodes -> Jsonb,
    connections -> Jsonb, inputs -> Jsonb, webhook_url -> Nullable<Text>, webhook_secret -> Nullable<Text>,
    retry_of -> Nullable<Uuid>, schedule_id -> Nullable<Uuid>, scheduled_at -> Nullable<Timestamptz>,
    node_executions -> Int4, tokens_used -> Int8, cost_nanos -> Int8, error_node_id -> Nullable<Text>,
    created_at -> Timestamptz,
} }
table! { llm_calls (id) {
    id -> Uuid, job_id -> Uuid, organization_id -> Uuid, user_id -> Uuid, call -> Text, request_hash -> Bytea,
    attempt -> Int4, sends -> Int4, status -> Text, endpoint -> Text, model -> Text, provider -> Nullable<Text>,
    answered_by -> Nullable<Text>, answer -> Nullable<Jsonb>, error_code -> Nullable<Text>,
    error_message -> Nullable<Text>, prompt_tokens -> Int4, completion_tokens -> Int4, cost_nanos -> Int8,
    reserved_tokens -> Int8, reserved_cost_nanos -> Int8, latency_ms -> Nullable<Int8>, created_at -> Timestamptz,
    finished_at -> Nullable<Timestamptz>,
} }
table! { budgets (scope, period) {
    scope -> Uuid, period -> Date, organization_id -> Uuid, job_id -> Nullable<Uuid>, token_limit -> Nullable<Int8>,
    cost_limit_nanos -> Nullable<Int8>, tokens_used -> Int8, tokens_reserved -> Int8, cost_used_nanos -> Int8,
    cost_reserved_nanos -> Int8,
} }
table! { usage_records (id) {
    id -> Uuid, organization_id -> Uuid, user_id -> Nullable<Uuid>, job_id -> Uuid, endpoint -> Text, model -> Text,
    prompt_tokens -> Int4, completion_tokens -> Int4, total_tokens -> Int4, cost_nanos -> Int8, status -> Text,
    response_time_ms -> Int8, created_at -> Timestamptz,
} }
table! { chat_entries (id) {
    id -> Uuid, user_id -> Uuid, message -> Text, response -> Text, model -> Text, created_at -> Timestamptz,
} }
table! { object_deletions (key) { key -> Text, created_at -> Timestamptz, } }
table! { api_keys (id) {
    id -> Uuid, user_id -> Uuid, organization_id -> Uuid, name -> Text, prefix -> Text, hash -> Bytea,
    permissions -> Array<Text>, expires_at -> Timestamptz, last_used_at -> Nullable<Timestamptz>,
    usage_count -> Int8, created_at -> Timestamptz, updated_at -> Timestamptz,
} }
table! { recovery_codes (user_id, hash) {
    user_id -> Uuid, hash -> Bytea, used_at -> Nullable<Timestamptz>,
} }
table! { password_resets (hash) {
    hash -> Bytea, user_id -> Uuid, expires_at -> Timestamptz, used_at -> Nullable<Timestamptz>,
    created_at -> Timestamptz,
} }
table! { invitations (id) {
    id -> Uuid, organization_id -> Uuid, email -> Text, role -> Text, hash -> Bytea, status -> Text,
    invited_by -> Nullable<Uuid>, expires_at -> Timestamptz, created_at -> Timestamptz, updated_at -> Timestamptz,
} }
table! { audit_entries (id) {
    id -> Uuid, organization_id -> Uuid, actor_id -> Nullable<Uuid>, action -> Text, target_type -> Text,
    target_id -> Nullable<Uuid>, data -> Jsonb, ip -> Nullable<Text>, request_id -> Nullable<Text>,
    created_at -> Timestamptz,
} }
table! { quota_windows (scope, period, starts) {
    scope -> Uuid, period -> Text, starts -> Date, used -> Int8, warned -> Int2,
} }
table! { quota_reservations (job_id) {
    job_id -> Uuid, user_id -> Uuid, organization_id -> Uuid, reserved_on -> Date,
} }
table! { idempotency_keys (user_id, route, hash) {
    user_id -> Uuid, route -> Text, hash -> Bytea, owner -> Uuid, status -> Text, body_hash -> Nullable<Bytea>,
    answer -> Nullable<Bytea>, claimed_at -> Timestamptz, created_at -> Timestamptz,
} }
table! { webhooks (id) {
    id -> Uuid, user_id -> Uuid, organization_id -> Uuid, name -> Text, url -> Text, events -> Array<Text>,
    secret -> Text, previous_secret -> Nullable<Text>, previous_secret_until -> Nullable<Timestamptz>,
    is_active -> Bool, ordered -> Bool, disabled_reason -> Nullable<Text>, failures -> Int4,
    last_delivery_at -> Nullable<Timestamptz>, created_at -> Timestamptz, updated_at -> Timestamptz,
    first_open -> Int8,
} }
table! { webhook_deliveries (id) {
    id -> Uuid, webhook_id -> Nullable<Uuid>, execution_id -> Nullable<Uuid>, event -> Text, body -> Text,
    number -> Int8, created_at -> Timestamptz,
} }
table! { webhook_attempts (delivery_id, attempt) {
    delivery_id -> Uuid, attempt -> Int4, sent_at -> Timestamptz, latency_ms -> Int4, status -> Nullable<Int2>,
    error -> Nullable<Text>, answer -> Nullable<Text>,
} }
table! { mails (id) {
    id -> Uuid, user_id -> Uuid, recipient -> Text, template -> Text, notice -> Bool, created_at -> Timestamptz,
} }
table! { projects (id) {
    id -> Uuid, organization_id -> Uuid, created_by -> Uuid, name -> Text, description -> Text, topic -> Text,
    status -> Text, priority -> Text, metadata -> Jsonb, version -> Int4, created_at -> Timestamptz,
    updated_at -> Timestamptz,
} }
table! { templates (id) {
    id -> Uuid, organization_id -> Nullable<Uuid>, created_by -> Nullable<Uuid>, name -> Text, description -> Text,
    category -> Text, is_public -> Bool, usage_count -> Int8, template_data -> Jsonb, created_at -> Timestamptz,
    updated_at -> Timestamptz,
} }
table! { orchestrations (id) {
    id -> Uuid, organization_id -> Uuid, user_id -> Uuid, project_id -> Uuid, template_id -> Nullable<Uuid>,
    topic -> Text, integration_enabled -> Bool, phases -> Array<Text>, integrations -> Array<Text>, model -> Text,
    max_tokens -> Int4, temperature -> Float8, retry_of -> Nullable<Uuid>, completed_phases -> Int4,
    failed_phases -> Int4, tokens_used -> Int8, cost_nanos -> Int8, created_at -> Timestamptz,
} }
table! { files (id) {
    id -> Uuid, organization_id -> Uuid, user_id -> Uuid, orchestration_id -> Nullable<Uuid>, filename -> Text,
    size -> Int8, mime_type -> Text, s3_key -> Text, created_at -> Timestamptz,
} }
table! { file_uploads (key) { key -> Text, upload_id -> Nullable<Text>, created_at -> Timestamptz, } }
table! { project_repositories (project_id) {
    project_id -> Uuid, head -> Text, s3_key -> Text, size -> Int8, commits -> Int4, updated_at -> Timestamptz,
} }
table! { usage_hours (organization_id, hour) {
    organization_id -> Uuid, hour -> Timestamptz, requests -> Int8, response_ms -> Float8, tokens -> Int8,
} }
table! { request_minutes (organization_id, minute, replica) {
    organization_id -> Uuid, minute -> Timestamptz, replica -> Uuid, requests -> Int8, response_ms -> Float8,
    errors_4xx -> Int8, errors_5xx -> Int8, seconds -> Array<Int4>, histogram -> Bytea,
} }
table! { orchestration_days (organization_id, project_id, day) {
    organization_id -> Uuid, project_id -> Uuid, day -> Date, started -> Int8, completed -> Int8, failed -> Int8,
    cancelled -> Int8, execution_ms -> Int8, file_system -> Int8, git_operations -> Int8, deployment -> Int8,
} }
table! { queue_pauses (queue) { queue -> Text, paused_at -> Timestamptz, } }

joinable!(refresh_tokens -> login_sessions (session_id));
joinable!(login_sessions -> users (user_id));
joinable!(memberships -> users (user_id));
joinable!(memberships -> organizations (organization_id));
joinable!(job_steps -> jobs (job_id));
joinable!(job_events -> jobs (job_id));
joinable!(job_images -> jobs (job_id));
joinable!(product_images -> products (product_id));
joinable!(analyses -> product_images (product_image_id));
joinable!(analysis_attributes -> analyses (analysis_id));
joinable!(analysis_defects -> analyses (analysis_id));
joinable!(executions -> jobs (id));
joinable!(pipeline_schedules -> pipelines (pipeline_id));
joinable!(llm_calls -> jobs (job_id));
joinable!(api_keys -> users (user_id));
joinable!(invitations -> organizations (organization_id));
joinable!(webhook_deliveries -> jobs (id));
joinable!(webhook_attempts -> webhook_deliveries (delivery_id));
joinable!(mails -> jobs (id));
joinable!(orchestrations -> jobs (id));
joinable!(orchestrations -> projects (project_id));
joinable!(projects -> users (created_by));
allow_tables_to_appear_in_same_query!(
    organizations,
    users,
    memberships,
    login_sessions,
    refresh_tokens,
    jobs,
    job_steps,
    job_events,
    products,
    product_images,
    job_images,
    analyses,
    analysis_attributes,
    analysis_defects,
    pipelines,
    pipeline_schedules,
    executions,
    llm_calls,
    budgets,
    usage_records,
    chat_entries,
    object_deletions,
    api_keys,
    recovery_codes,
    password_resets,
    invitations,
    audit_entries,
    quota_windows,
    quota_reservations,
    idempotency_keys,
    webhooks,
    webhook_deliveries,
    webhook_attempts,
    mails,
    projects,
    templates,
    orchestrations,
    files,
    file_uploads,
    project_repositories,
    usage_hours,
    request_minutes,
    orchestration_days,
    queue_pauses,
);
