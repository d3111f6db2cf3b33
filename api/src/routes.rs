//! Every route of the API, in one list. A new endpoint is a line here; its path, method and description stand at its
//! handler, and the description at `/openapi.json` follows from them.
//!
//! A handler for PUT answers PATCH too, and one for GET answers HEAD: see `alias`.

use crate::{
    docs,
    handlers::{
        account_deletion, ai, ai_stream, analysis, analytics, api_keys, audit, auth, batch, chat, chat_socket,
        dashboard, deliveries, docs as pages, execution_events, executions, file_content, file_upload, files, images,
        invitation_page, invitations, jobs, login_sessions, members, mfa, operations, orchestrate,
        orchestration_events, orchestrations, organizations, password_reset, pipeline_runs, pipelines,
        processing_socket, products, project_repositories, projects, schedules, templates, unsubscribe, uploads, usage,
        users, webhooks,
    },
    socket_io::bridge,
};
use utoipa::openapi::OpenApi;
use utoipa_actix_web::{AppExt, scope, service_config::ServiceConfig};

pub(crate) fn routes(config: &mut ServiceConfig) {
    config.service(
        scope("/api/v1")
            // accounts
            .service(auth::register)
            .service(auth::login)
            .service(auth::refresh)
            .service(auth::logout)
            .service(auth::update_password)
            .service(password_reset::forgot_password)
            .service(password_reset::reset_password)
            .service(mfa::set_up_mfa)
            .service(mfa::enable_mfa)
            .service(mfa::disable_mfa)
            .service(login_sessions::list_sessions)
            .service(login_sessions::end_session)
            .service(users::get_auth_me)
            .service(users::update_auth_profile)
            .service(users::get_user_me)
            .service(users::update_user_me)
            .service(users::get_user_profile)
            .service(users::update_user_profile)
            .service(unsubscribe::get_unsubscribe_page)
            .service(unsubscribe::unsubscribe)
            // API keys
            .service(api_keys::list_keys)
            .service(api_keys::create_key)
            .service(api_keys::get_key)
            .service(api_keys::update_key)
            .service(api_keys::delete_key)
            .service(account_deletion::delete_user_me)
            // organizations, their members, and who is to come
            .service(organizations::list_organizations)
            .service(organizations::create_organization)
            .service(organizations::get_organization)
            .service(organizations::update_organization)
            .service(organizations::leave_organization)
            .service(organizations::switch_organization)
            .service(members::list_members)
            .service(members::update_member)
            .service(members::remove_member)
            .service(invitations::list_invitations)
            .service(invitations::create_invitation)
            .service(invitations::revoke_invitation)
            .service(invitations::accept_invitation)
            .service(audit::list_audit)
            // pipelines, their runs and their schedules; `node-types` before what takes any word for an id
            .service(pipelines::list_pipelines)
            .service(pipelines::create_pipeline)
            .service(pipelines::list_node_types)
            .service(pipelines::get_pipeline)
            .service(pipelines::update_pipeline)
            .service(pipelines::delete_pipeline)
            .service(pipelines::duplicate_pipeline)
            .service(pipeline_runs::run_pipeline)
            .service(schedules::list_schedules)
            .service(schedules::create_schedule)
            .service(schedules::get_schedule)
            .service(schedules::update_schedule)
            .service(schedules::delete_schedule)
            .service(executions::list_executions)
            .service(executions::get_execution)
            .service(executions::cancel_execution)
            .service(executions::retry_execution)
            .service(execution_events::follow_execution)
            // orchestrations, and what they leave
            .service(orchestrate::start_orchestration)
            .service(orchestrations::list_orchestrations)
            .service(orchestrations::get_orchestration)
            .service(orchestrations::cancel_orchestration)
            .service(orchestrate::retry_orchestration)
            .service(orchestration_events::follow_orchestration)
            .service(project_repositories::get_repository)
            // projects, and what orchestrations are made from
            .service(projects::list_projects)
            .service(projects::create_project)
            .service(projects::get_project)
            .service(projects::update_project)
            .service(projects::delete_project)
            .service(templates::list_templates)
            .service(templates::create_template)
            .service(templates::get_template)
            .service(templates::update_template)
            .service(templates::delete_template)
            // models
            .service(ai::complete_chat)
            .service(ai::generate_text)
            .service(ai::list_models)
            .service(ai_stream::stream_chat)
            .service(usage::sum_up_usage)
            .service(usage::list_usage)
            .service(chat::send_message)
            .service(chat::list_history)
            .service(chat::clear_history)
            // products and their images
            .service(products::list_products)
            .service(products::create_product)
            .service(products::get_product)
            .service(products::update_product)
            .service(products::delete_product)
            .service(images::update_image)
            .service(images::delete_image)
            .service(uploads::presign_upload)
            .service(uploads::confirm_upload)
            .service(uploads::upload_directly)
            // webhooks and what was delivered to them
            .service(webhooks::list_webhooks)
            .service(webhooks::create_webhook)
            .service(webhooks::get_webhook)
            .service(webhooks::update_webhook)
            .service(webhooks::delete_webhook)
            .service(webhooks::test_webhook)
            .service(webhooks::rotate_secret)
            .service(deliveries::list_deliveries)
            .service(deliveries::get_delivery)
            .service(deliveries::redeliver)
            .service(deliveries::replay_deliveries)
            // analyses
            .service(analysis::list_analyses)
            .service(analysis::get_analysis)
            .service(analysis::retry_analysis)
            .service(batch::create_batch)
            .service(batch::get_batch)
            .service(batch::cancel_batch)
            .service(jobs::list_jobs)
            .service(jobs::get_job)
            .service(jobs::cancel_job)
            .service(dashboard::get_stats)
            .service(dashboard::list_recent)
            .service(dashboard::list_categories)
            // files; `upload` before what takes any word for an id
            .service(file_upload::upload_file)
            .service(files::list_files)
            .service(files::get_file)
            .service(files::delete_file)
            .service(file_content::get_file_content)
            // figures of the organization
            .service(analytics::get_usage_analytics)
            .service(analytics::get_performance),
    );
    // sockets, without prefix
    config
        .service(processing_socket::follow_job)
        .service(chat_socket::open_chat)
        .service(bridge::open_socket_io)
        .service(bridge::send_to_socket_io);
    // where the link of a mail leads
    config.service(password_reset::show_reset_page);
    // pages that mails lead to, without prefix
    config.service(invitation_page::show_invitation);
    // operations, without prefix
    config
        .service(operations::get_health)
        .service(operations::get_ready)
        .service(operations::get_metrics)
        .service(pages::get_openapi_json)
        .service(pages::get_openapi_yaml)
        .service(pages::get_docs)
        .service(pages::get_docs_asset)
        .service(pages::get_redoc)
        .service(pages::get_redoc_asset);
}

/// The description of everything in the list above.
pub(crate) fn document() -> OpenApi {
    let app = actix_web::App::new().into_utoipa_app().openapi(docs::document()).configure(routes);
    docs::complete(app.split_for_parts().1)
}
