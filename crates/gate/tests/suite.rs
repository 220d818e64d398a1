//! What every bus must do, on the bus within one process.

use tidegate_bus_suite::{LocalWorld, bus_suite};

async fn world() -> LocalWorld {
    LocalWorld::default()
}

bus_suite!(crate::world);
