//! A change reaches the disk only when the backup has acknowledged all that led to it, or the term is won alone.

use lockstep_tests::{
    disk::{self, answers, begin, drain, expect_whole, image},
    on_every_engine,
    rig::{self, NERVOUS, PATIENCE, Scene},
};
use vmm::{
    demo::{
        DemoError, DiskAccess, Member,
        network::{Cable, Host},
    },
    engine::EngineKind,
    host::Event,
    session::disk_config::Reads,
};

/// The replicas do not hear each other, and no arbiter says who may go on: what the client asks for in the meantime is done by nobody until one does.
fn nothing_is_written_without_acknowledgement(engine: EngineKind, reads: Reads) {
    let options = disk::options(engine, DiskAccess::File { reads }, NERVOUS);
    rig::play(options, |mut scene: Scene| async move {
        let result: Result<(), DemoError> = async {
            let mut client = begin(&mut scene, 3).await?;
            answers(&mut client, 30).await?;
            drain(&mut client).await?;
            scene.rig.kill(Member::Arbiter)?;
            scene.rig.wait_for_end(Member::Arbiter, PATIENCE).await?;
            let image = image(&scene, Host::Primary);
            let before = std::fs::read(&image).expect("the image");

            scene.rig.network().unplug(Cable::Channel)?;
            client.fill_window()?;
            let waits = |event: &Event| matches!(event, Event::WaitingForArbiter);
            for member in [Member::Primary, Member::Backup] {
                scene
                    .expect(member, "that it waits for the arbiter", waits)
                    .await?;
            }
            let after = std::fs::read(&image).expect("the image");
            assert!(before == after, "the disk was changed");

            scene.rig.start_arbiter().await?;
            answers(&mut client, 60).await?;
            drain(&mut client).await?;
            expect_whole(&image, client.tally().answers());
            Ok(())
        }
        .await;
        (scene, result)
    });
}

on_every_engine! {
    fn reading_the_log(engine) {
        nothing_is_written_without_acknowledgement(engine, Reads::Log);
    }

    fn reading_for_itself(engine) {
        nothing_is_written_without_acknowledgement(engine, Reads::SelfRead);
    }
}
