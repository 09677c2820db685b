//! The story: every feature once, in the order in which a game would need it.

use chrono::Utc;
use es_core::{Project, ProjectionStore, Repository, SnapshotStore, Version};
use es_projections::Daemon;
use examples::{
    Player, RoomOccupancy,
    player::{DamageTaken, ItemPickedUp, PlayerCreated, Strike},
    room_occupancy::WhoIsWhere,
    rooms::{self, CELLAR, GARDEN, HALL, TOWER},
};
use futures::future::try_join_all;
use uuid::Uuid;

use crate::Failure;

pub(crate) async fn tell<S>(store: S) -> Result<(), Failure>
where
    S: ProjectionStore + SnapshotStore + WhoIsWhere + Clone + 'static,
    RoomOccupancy: Project<S::Connection>,
{
    let players = Repository::<Player>::new(store.clone()).snapshot_every(10);
    let daemon = Daemon::new(store.clone())
        .run(RoomOccupancy)
        .start()
        .await?;

    println!("1. Three players enter the hall.");
    let [aragorn, legolas, gimli] = [(); 3].map(|()| Uuid::now_v7());
    for (id, name) in [(aragorn, "Aragorn"), (legolas, "Legolas"), (gimli, "Gimli")] {
        let created = PlayerCreated {
            name: name.to_owned(),
            room_id: HALL,
        };
        players.create(id, created).await?;
    }

    println!("2. They set out at the same time, each to another room.");
    let routes = [(aragorn, CELLAR), (legolas, TOWER), (gimli, GARDEN)];
    try_join_all(routes.map(|(id, room)| {
        let players = players.clone();
        async move {
            players
                .update(id, |player| player.move_to(room, Utc::now()))
                .await
        }
    }))
    .await?;

    println!("3. Aragorn finds a sword and a shield, and is struck.");
    let mut player = players.load(aragorn).await?;
    player.raise(ItemPickedUp {
        item: "sword".to_owned(),
    });
    player.raise(ItemPickedUp {
        item: "shield".to_owned(),
    });
    players.save(&mut player).await?;
    players.execute(aragorn, Strike { points: 15 }).await?;

    println!("4. Two hands reach for Aragorn's state; the slower one is told the truth:");
    let mut fast = players.load(aragorn).await?;
    let mut slow = players.load(aragorn).await?;
    fast.raise(DamageTaken { points: 5 });
    players.save(&mut fast).await?;
    slow.raise(DamageTaken { points: 7 });
    match players.save(&mut slow).await {
        Ok(_) => return Err("a lost update went unnoticed".into()),
        Err(conflict) => println!(
            "   {}",
            conflict
                .to_string()
                .replace(&aragorn.to_string(), "aragorn")
        ),
    }

    println!("5. Eight tasks hand him a potion each; conflicts are retried, none is lost.");
    try_join_all((0..8).map(|_| players.update(aragorn, |player| player.pick_up("potion"))))
        .await?;
    let player = players.load(aragorn).await?;
    let potions = player.inventory.iter().filter(|i| *i == "potion").count();
    println!("   version {}, {potions} potions", player.version());

    println!("6. A snapshot was taken on the way; loading starts from it.");
    let snapshot = store
        .load_snapshot(&players.stream(aragorn), Version::MAX)
        .await?
        .ok_or("no snapshot was taken")?;
    println!(
        "   snapshot at version {}, {} events after it",
        snapshot.version,
        player.version().get() - snapshot.version.get()
    );

    println!("7. Gimli has seen the garden and goes down to the cellar.");
    let moved = players
        .update(gimli, |player| player.move_to(CELLAR, Utc::now()))
        .await?
        .ok_or("Gimli did not move")?;
    daemon.wait_until("room_occupancy", moved.position).await?;
    println!("   the read model has caught up with him:");
    for (id, name, room, moves) in store.who_is_where().await? {
        if [aragorn, legolas, gimli].contains(&id) {
            println!("   {name:<8} {:<7} moves: {moves}", rooms::name(room));
        }
    }

    println!("8. Gimli's history, as it is stored:");
    for event in store
        .read_stream(&players.stream(gimli), Version::EMPTY, 100)
        .await?
    {
        println!("{}", serde_json::to_string_pretty(&event)?);
    }

    println!("9. Aragorn as he was at version 3:");
    let then = players.load_at(aragorn, Version::new(3)).await?;
    println!("{}", serde_json::to_string_pretty(then.state())?);

    daemon.shutdown().await?;
    Ok(())
}
